"""How near a model's answers come to recorded ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from ftclient.evaluate.metrics import calls_right, exact_match
from ftclient.evaluate.questions import Answer, Call, Question


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near a model's answers are to recorded ones. Shares are of 1."""

    n: int
    exact: float
    """Share of answers with the same text and the same calls of tools."""
    similarity: float
    """Mean share of characters in common, in order; calls count as text."""


def agreement(pairs: Iterable[tuple[Answer, Answer]]) -> Agreement:
    """Compare answers with golden ones, which stand second."""
    both = [(_as_long(answer, golden), golden) for answer, golden in pairs]
    n = len(both)
    return Agreement(
        n=n,
        exact=sum(_is_same(answer, golden) for answer, golden in both) / n,
        similarity=sum(_similarity(answer, golden) for answer, golden in both) / n,
    )


def shown(answer: Answer) -> str:
    """Return an answer as text, with its calls: equal calls are written alike, in whatever order they were made."""
    return Answer(text=answer.text, calls=plain_calls(answer.calls)).shown


def plain_calls(calls: Sequence[Call]) -> list[Call]:
    """Return calls with their arguments as canonical JSON, in an order that depends on nothing else."""
    plain = [Call(name=call.name, arguments=_canonical(call.arguments)) for call in calls]
    return sorted(plain, key=lambda call: (call.name, call.arguments))


def _as_long(answer: Answer, golden: Answer) -> Answer:
    """Return an answer only as far as a golden one goes that was cut off: what would have come then nobody knows."""
    if golden.finish_reason != "length":
        return answer
    return Answer(text=answer.text[: len(golden.text)], calls=answer.calls, error=answer.error)


def _is_same(answer: Answer, golden: Answer) -> bool:
    wanted = Question(messages=(), expected=golden.text, expected_calls=golden.calls)
    return answer.error is None and exact_match(answer.text, golden.text) and calls_right(wanted, answer)


def _similarity(answer: Answer, golden: Answer) -> float:
    if answer.error is not None:
        return 0.0
    return SequenceMatcher(None, shown(answer), shown(golden), autojunk=False).ratio()


def _canonical(arguments: str) -> str:
    try:
        value: Any = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
