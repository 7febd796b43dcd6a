"""Graders that ask a model: what is asked, and how its answer is read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftclient.evaluate.graders.kinds import LabelModel, ScoreModel
from ftclient.evaluate.graders.templates import fill

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_OBJECT = re.compile(r'\{\s*"')
_LEAD = re.compile(r"\s*(?:```(?:json)?\s*)?")
_RESULT_NAMES = ("result", "score", "label")
"""What models without structured outputs call it, the name that was asked for first."""
_NOTHING = object()
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
    grader: ScoreModel | LabelModel, *, item: Mapping[str, Any], sample: Mapping[str, Any] | None
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
        ReplyError: There is no number, no single one, or none that is finite.
    """
    found = _result(text)
    if isinstance(found, bool) or not isinstance(found, int | float):
        numbers = _NUMBER.findall(str(found))
        if len(numbers) != 1:
            raise ReplyError("the model's answer is no score")
        found = float(numbers[0])
    if isinstance(found, float) and not math.isfinite(found):
        raise ReplyError("the model's score is no finite number")
    low, high = grader.range
    return float(min(max(found, low), high))


def label_in(text: str, grader: LabelModel) -> str:
    """Return the label that a model chose.

    Raises:
        ReplyError: It named none, or several.
    """
    found = _result(text)
    if found is None:
        raise ReplyError("the model's answer names none of the labels")
    said = (found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)).strip()
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
    """What a reply says: the result in the JSON that it opens with, or else the last one; without JSON its words.

    Raises:
        ReplyError: There is only JSON, or some that breaks off, and no result: what it says on the way to one is no
            judgement.
    """
    objects, words = _parted(text)
    opening = objects.get(_LEAD.match(text).end(), {})  # type: ignore[union-attr]  # it matches any text
    named = [opening[name] for name in _RESULT_NAMES if name in opening]
    if named:
        return named[0]
    results = [found for found in map(_last_result_in, objects.values()) if found is not _NOTHING]
    if results:
        return results[-1]
    if not words.strip() or _OBJECT.search(words):
        raise ReplyError("the model's answer has no result")
    return words


def _parted(text: str) -> tuple[dict[int, dict[str, Any]], str]:
    """The JSON objects in a text by where they begin, and what is around them."""
    objects: dict[int, dict[str, Any]] = {}
    words, seen, at = "", 0, text.find("{")
    while at >= 0:
        try:
            found, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        objects[at] = found
        words, seen, at = words + text[seen:at], end, text.find("{", end)
    return objects, words + text[seen:]


def _last_result_in(found: dict[str, Any]) -> Any:
    """The `result` of an object, or of one within it; _NOTHING if there is none."""
    left: list[Any] = [found]
    while left:
        value = left.pop()
        if isinstance(value, dict) and "result" in value:
            return value["result"]
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return _NOTHING
