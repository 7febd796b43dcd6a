"""Running a grader on one answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftclient.evaluate.graders.asked import Ask, ReplyError, label_in, question_of, score_in
from ftclient.evaluate.graders.formula import FormulaError
from ftclient.evaluate.graders.kinds import (
    Grader,
    LabelModel,
    Multi,
    PythonGrader,
    ScoreModel,
    Single,
    StringCheck,
)
from ftclient.evaluate.graders.sandbox import Limits, run_python
from ftclient.evaluate.graders.similarity import similarity
from ftclient.evaluate.graders.templates import Sample, TemplateError, fill

_FLAGS = (
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
)
_DETAILS = (
    "python_grader_server_error_type",
    "python_grader_runtime_error_details",
    "model_grader_server_error_details",
)


@dataclass(frozen=True, kw_only=True)
class Means:
    """What some graders need from outside."""

    ask: Ask | None = None
    """Asks a model, for score_model and label_model. May raise; the text of what it raises is shown."""
    limits: Limits = field(default_factory=Limits)
    """What python graders may use."""


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What a grader made of an answer."""

    reward: float
    """0 where the grader could not do its work."""
    sub_rewards: Mapping[str, float] = field(default_factory=dict)
    """Of a multi grader, by name."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """What went wrong, in words, by the flag that OpenAI's API has for it."""
    execution_time_s: float = 0.0
    tokens_by_model: Mapping[str, int] = field(default_factory=dict)
    """Tokens that models took to grade."""
    model: str | None = None
    """The model that was asked, if one was."""

    @property
    def error(self) -> str | None:
        """What went wrong, in words; None if nothing did."""
        return "; ".join(self.errors.values()) or None

    def to_json(self, grader: Grader) -> dict[str, Any]:
        """The grade as OpenAI's API shows it."""
        details: dict[str, str | None] = dict.fromkeys(_DETAILS)
        for flag, text in self.errors.items():
            name = next((name for name in _DETAILS if name.startswith(flag)), None)
            if name is not None:
                details[name] = text
        return {
            "reward": self.reward,
            "metadata": {
                "name": grader.name,
                "type": grader.type,
                "errors": {**{flag: flag in self.errors for flag in _FLAGS}, **details},
                "execution_time": self.execution_time_s,
                "scores": dict(self.sub_rewards) or {grader.name: self.reward},
                "token_usage": sum(self.tokens_by_model.values()) if self.tokens_by_model else None,
                "sampled_model_name": self.model,
            },
            "sub_rewards": dict(self.sub_rewards),
            "model_grader_token_usage_per_model": dict(self.tokens_by_model),
        }


class _GradeError(Exception):
    """Ends a grader with one of the API's flags."""

    def __init__(self, flag: str, text: str) -> None:
        super().__init__(flag, text)
        self.flag, self.text = flag, text


def grade(
    grader: Grader, *, sample: Sample, item: Mapping[str, Any] | None = None, means: Means | None = None
) -> Grade:
    """Grade one answer. What goes wrong on the way is in the grade, whose reward is then 0.

    Args:
        grader: See `kinds.parse_grader`.
        sample: What the model answered.
        item: The example's fields.
        means: What asks models, and what code may use.

    Raises:
        UnsupportedError: A python grader cannot be shut in on this machine.
        MissingDependencyError: The extra `evaluate` is not installed.
    """
    given = means or Means()
    started = time.perf_counter()
    try:
        if isinstance(grader, Multi):
            found = _multi(grader, sample, item or {}, given)
        else:
            found = _single(grader, sample, item or {}, given)
    except _GradeError as error:
        model = grader.model if isinstance(grader, ScoreModel | LabelModel) else None
        found = Grade(reward=0.0, errors={error.flag: error.text}, model=model)
    return _timed(found, time.perf_counter() - started)


def passes(grader: Grader, found: Grade) -> bool | None:
    """Whether a grade counts as a right answer; None where the grader draws no such line."""
    if grader.pass_threshold is not None:
        return not found.errors and found.reward >= grader.pass_threshold
    if isinstance(grader, StringCheck | LabelModel):
        return found.reward == 1.0
    return None


def _timed(found: Grade, seconds: float) -> Grade:
    from dataclasses import replace

    return replace(found, execution_time_s=seconds)


def _single(grader: Single, sample: Sample, item: Mapping[str, Any], means: Means) -> Grade:
    if isinstance(grader, ScoreModel | LabelModel):
        return _asked(grader, sample, item, means)
    if isinstance(grader, PythonGrader):
        return Grade(reward=_python(grader, sample, item, means))
    text, reference = (_filled(text, sample, item) for text in (grader.input, grader.reference))
    if isinstance(grader, StringCheck):
        return Grade(reward=float(_checks(grader.operation, text, reference)))
    return Grade(reward=similarity(grader.evaluation_metric, text, reference))


def _filled(text: str, sample: Sample, item: Mapping[str, Any]) -> str:
    try:
        return fill(text, item=item, sample=sample.namespace())
    except TemplateError as error:
        raise _GradeError(error.fault, str(error)) from error


def _checks(operation: str, text: str, reference: str) -> bool:
    if operation == "eq":
        return text == reference
    if operation == "ne":
        return text != reference
    return reference in text if operation == "like" else reference.casefold() in text.casefold()


def _python(grader: PythonGrader, sample: Sample, item: Mapping[str, Any], means: Means) -> float:
    outcome = run_python(grader.source, sample=sample.namespace(), item=item, limits=means.limits)
    if outcome.reward is None:
        raise _GradeError("python_grader_runtime_error", outcome.error or "the grader gave no reward")
    return outcome.reward


def _asked(grader: ScoreModel | LabelModel, sample: Sample, item: Mapping[str, Any], means: Means) -> Grade:
    if means.ask is None:
        raise _GradeError("model_grader_server_error", f"there is nobody to ask the model {grader.model!r}")
    try:
        question = question_of(grader, item=item, sample=sample.namespace())
    except TemplateError as error:
        raise _GradeError(error.fault, str(error)) from error
    try:
        reply = means.ask(question)
    except Exception as error:
        raise _GradeError("model_grader_server_error", str(error)) from error
    tokens = {grader.model: reply.n_tokens} if reply.n_tokens is not None else {}
    errors: dict[str, str] = {}
    reward = 0.0
    try:
        if reply.is_refusal:
            errors["model_grader_refusal_error"] = "the model refused to grade"
        elif isinstance(grader, ScoreModel):
            reward = score_in(reply.text, grader)
        else:
            reward = float(label_in(reply.text, grader) in grader.passing_labels)
    except ReplyError as error:
        errors["model_grader_parse_error"] = str(error)
    return Grade(reward=reward, errors=errors, tokens_by_model=tokens, model=grader.model)


def _multi(grader: Multi, sample: Sample, item: Mapping[str, Any], means: Means) -> Grade:
    parts = {name: grade(part, sample=sample, item=item, means=means) for name, part in grader.graders.items()}
    rewards = {name: part.reward for name, part in parts.items()}
    errors = {flag: f"{name}: {text}" for name, part in parts.items() for flag, text in part.errors.items()}
    tokens: dict[str, int] = {}
    for part in parts.values():
        for model, n in part.tokens_by_model.items():
            tokens[model] = tokens.get(model, 0) + n
    try:
        reward = grader.formula().value(rewards)
    except FormulaError as error:
        reward, errors = 0.0, {**errors, "other_error": str(error)}
    asked = next((part.model for part in parts.values() if part.model), None)
    return Grade(reward=reward, sub_rewards=rewards, errors=errors, tokens_by_model=tokens, model=asked)


__all__ = ["Grade", "Means", "grade", "passes"]
