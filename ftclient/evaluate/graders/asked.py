"""Graders that ask a model: what is asked, and how its answer is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftclient.evaluate.graders.kinds import LabelModel, ScoreModel
from ftclient.evaluate.graders.templates import fill

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_STEPS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    },
}
"""Room for the model to reason before it judges, in the shape that OpenAI's guide to graders names."""


@dataclass(frozen=True, kw_only=True)
class ModelQuestion:
    """What a grader asks a model."""

    model: str
    messages: Sequence[Mapping[str, str]]
    options: Mapping[str, Any]
    """Fields of chat completions: temperature, top_p, seed, max_completion_tokens, reasoning_effort."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """JSON schema of the answer, for hosts with structured outputs; the messages say it in words."""


@dataclass(frozen=True, kw_only=True)
class ModelReply:
    """What it said."""

    text: str
    n_tokens: int | None = None
    """Tokens of question and answer together, where the host counts them."""
    is_refusal: bool = False


Ask = Callable[[ModelQuestion], ModelReply]


class ReplyError(ValueError):
    """A model's answer that is no judgement."""


def question_of(
    grader: ScoreModel | LabelModel, *, item: Mapping[str, Any], sample: Mapping[str, Any]
) -> ModelQuestion:
    """Return what to ask; see `templates.fill` for `item`, `sample` and what is raised."""
    filled = [{"role": each.role, "content": fill(each.text(), item=item, sample=sample)} for each in grader.input]
    params = grader.sampling_params
    options = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": params.seed,
        "max_completion_tokens": params.max_completions_tokens,
        "reasoning_effort": params.reasoning_effort,
    }
    return ModelQuestion(
        model=grader.model,
        messages=_with_form(filled, _form(grader)),
        options={name: value for name, value in options.items() if value is not None},
        schema=_schema(grader),
    )


def score_in(text: str, grader: ScoreModel) -> float:
    """Return the score that a model gave, cut to the grader's range.

    Raises:
        ReplyError: There is no number, or no single one.
    """
    found = _result(text)
    if isinstance(found, bool) or not isinstance(found, int | float):
        numbers = _NUMBER.findall(text if found is None else str(found))
        if len(numbers) != 1:
            raise ReplyError("the model's answer is no score")
        found = float(numbers[0])
    low, high = grader.range
    return min(max(float(found), low), high)


def label_in(text: str, grader: LabelModel) -> str:
    """Return the label that a model chose.

    Raises:
        ReplyError: It named none, or several.
    """
    found = _result(text)
    said = (found if isinstance(found, str) else text).strip()
    if said in grader.labels:
        return said
    named = [label for label in grader.labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", said, re.IGNORECASE)]
    longest = [label for label in named if not any(label != other and label in other for other in named)]
    if len(longest) != 1:
        raise ReplyError("the model's answer names none of the labels, or several")
    return longest[0]


def _form(grader: ScoreModel | LabelModel) -> str:
    if isinstance(grader, ScoreModel):
        low, high = grader.range
        wanted = f"a number from {low:g} to {high:g}"
    else:
        wanted = "one of " + ", ".join(json.dumps(label, ensure_ascii=False) for label in grader.labels)
    return (
        'Answer with one JSON object: {"steps": [{"description": "...", "conclusion": "..."}], "result": ...}, '
        f'where "result" is {wanted}.'
    )


def _with_form(messages: list[dict[str, str]], form: str) -> list[dict[str, str]]:
    """Say the answer's form in the first message, where it is for the system, else in one before it."""
    first = messages[0]
    if first["role"] in ("system", "developer"):
        return [{**first, "content": f"{first['content']}\n\n{form}"}, *messages[1:]]
    return [{"role": "system", "content": form}, *messages]


def _schema(grader: ScoreModel | LabelModel) -> dict[str, Any]:
    is_score = isinstance(grader, ScoreModel)
    result = {"type": "number"} if is_score else {"type": "string", "enum": list(grader.labels)}  # type: ignore[union-attr]  # is_score tells
    return {
        "type": "object",
        "properties": {"steps": _STEPS, "result": result},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }


def _result(text: str) -> Any:
    """The `result` of the last JSON object in a text; None if there is none."""
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and "result" in found:
            return found["result"]
        start = text.find("{", start + 1)
    return None
