"""A grader's rewards for many answers; what it asks models is asked once and kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from ftclient.errors import BackendError, FtclientError
from ftclient.evaluate import reasoning
from ftclient.evaluate.asking import Asker
from ftclient.evaluate.graders import (
    Grade,
    Grader,
    LabelModel,
    Means,
    ModelQuestion,
    ModelReply,
    Multi,
    PythonGrader,
    Sample,
    ScoreModel,
    grade,
)
from ftclient.evaluate.graders.asked import question_of
from ftclient.evaluate.graders.templates import TemplateError, variables_of
from ftclient.evaluate.questions import Answer, Question
from ftclient.evaluate.spending import Asked, prompt_tokens

_MOST_ANSWER_TOKENS = 1_024
"""How long a model that grades may go on, where the grader does not say; models that reason have more room."""
_SHOWN_ERROR = 200
_AS_JSON_TIMES, _AS_JSON_TOKENS = 4, 64
"""How much longer an answer may be as JSON, escaped and with the names of fields: in o200k, text of many quotes four
times, calls of tools three times, and what wraps either takes some 30 tokens."""


def graded(
    asker: Asker, grader: Grader, questions: Sequence[Question], answers: Sequence[Answer], *, done: Callable[[], None]
) -> list[Grade]:
    """Return the grade of each answer.

    Raises:
        BackendError: A model that grades cannot be asked.
    """
    means = Means(ask=lambda question: _ask(asker, question))

    def one(pair: tuple[Question, Answer]) -> Grade:
        question, answer = pair
        found = grade(grader, sample=sample_of(answer), item=question.item, means=means)
        if "model_grader_server_error" in found.errors:
            raise BackendError(f"The grader's model cannot be asked: {found.errors['model_grader_server_error']}")
        return found

    workers = min(asker.workers, os.cpu_count() or 1) if runs_code(grader) else None  # a process each
    return asker.each(one, list(zip(questions, answers, strict=True)), done=done, workers=workers)


def runs_code(grader: Grader) -> bool:
    """Whether a grader, or a part of it, is code."""
    return any(isinstance(part, PythonGrader) for part in _parts(grader))


def _parts(grader: Grader) -> list[Grader]:
    return list(grader.graders.values()) if isinstance(grader, Multi) else [grader]


def check_worked(grader: Grader, grades: Sequence[Grade]) -> None:
    """Refuse rewards of a grader that failed on every answer: they would say that all models are equally bad.

    Raises:
        FtclientError: It did; with its first error.
    """
    errors = _failures(grades)
    if errors and len(errors) == len(grades):
        raise FtclientError(
            f"The grader {grader.name} failed on all {len(grades)} answers, so nothing can be compared by it: "
            f"{errors[0][:_SHOWN_ERROR].rstrip('.')}. The answers are kept: once the grader is mended, none of them is "
            "asked for again."
        )


def complaint(grader: Grader, grades: Sequence[Grade]) -> str | None:
    """Return in words on how many answers the grader failed, and why on the first of them; None if on none."""
    errors = _failures(grades)
    if not errors:
        return None
    first = errors[0][:_SHOWN_ERROR]
    return f"{grader.name} failed on {len(errors)} of {len(grades)} answers, which count as 0: {first}"


def _failures(grades: Sequence[Grade]) -> list[str]:
    """Return an error for each answer that the grader failed on.

    Answers that are not the JSON that a grader looks into are wrong, and no failure of it.
    """
    return [text for found in grades for flag, text in list(found.errors.items())[:1] if flag != "sample_parse_error"]


def sample_of(answer: Answer) -> Sample:
    """Return an answer as graders see it."""
    calls: list[dict[str, Any]] = [
        {"id": f"call_{at}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for at, call in enumerate(answer.calls)
    ]
    return Sample(text=answer.text, tool_calls=calls)


def to_ask(
    asker: Asker, grader: Grader, question: Question, answer: Answer | None, *, longest_tokens: int
) -> list[Asked]:
    """Return what a grader will ask models about one answer, as it is billed at most.

    Args:
        asker: Knows what has been asked before.
        grader: The grader.
        question: What was asked.
        answer: The answer, None if it is not known yet.
        longest_tokens: How long it may be. A grader shows it as often as its template says.
    """
    parts = [part for part in _parts(grader) if isinstance(part, ScoreModel | LabelModel)]
    found = [_asked_by(asker, part, question, answer, longest_tokens) for part in parts]
    return [each for each in found if each is not None]


def _asked_by(
    asker: Asker, grader: ScoreModel | LabelModel, question: Question, answer: Answer | None, longest_tokens: int
) -> Asked | None:
    """What one grader will ask; None if that is nothing, or at hand."""
    asked = _question_about(grader, question, answer)
    if asked is None:
        return None
    options = _options(asker, asked)
    n_unknown = 0 if answer else _answer_tokens(grader, longest_tokens)
    if not n_unknown and asker.known(asked.model, asked.messages, options):
        return None
    # A schema is put before the model, too.
    schema = {"role": "system", "content": json.dumps(options.get("response_format", ""))}
    return Asked(
        model=asked.model,
        prompt_tokens=prompt_tokens(asked.model, [*asked.messages, schema]) + n_unknown,
        answer_tokens=int(options["max_completion_tokens"]),
    )


def _question_about(grader: ScoreModel | LabelModel, question: Question, answer: Answer | None) -> ModelQuestion | None:
    """What the grader asks; None if a variable is missing, so that it asks nothing."""
    try:
        return question_of(grader, item=question.item, sample=sample_of(answer).namespace() if answer else None)
    except TemplateError:
        return None


def _answer_tokens(grader: ScoreModel | LabelModel, longest_tokens: int) -> int:
    """How many tokens an answer that is not known yet takes at most where the grader shows it."""
    names = [name for text in grader.texts() for name in variables_of(text) if name.startswith("sample")]
    as_json = _AS_JSON_TIMES * longest_tokens + _AS_JSON_TOKENS
    return sum(longest_tokens if name == "sample.output_text" else as_json for name in names)


def _options(asker: Asker, question: ModelQuestion) -> dict[str, Any]:
    room = reasoning.TOKENS if reasoning.is_known(question.model) else 0
    options: dict[str, Any] = {"max_completion_tokens": _MOST_ANSWER_TOKENS + room, **question.options}
    if asker.has_structured_outputs:
        schema = {"name": "grade", "schema": dict(question.schema), "strict": True}
        options["response_format"] = {"type": "json_schema", "json_schema": schema}
    return options


def _ask(asker: Asker, question: ModelQuestion) -> ModelReply:
    found = asker.answer(question.model, question.messages, _options(asker, question))
    counts = (found.prompt_tokens, found.answer_tokens)
    n_tokens = None if None in counts else sum(count or 0 for count in counts)
    return ModelReply(text=found.text, n_tokens=n_tokens, is_refusal=found.finish_reason == "content_filter")
