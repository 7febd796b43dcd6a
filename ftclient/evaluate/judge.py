"""Which of two answers a model prefers, asked twice with the answers' places changed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ftclient.evaluate.asking import Asker
from ftclient.evaluate.compare import Measured
from ftclient.evaluate.questions import Answer, Question
from ftclient.evaluate.spending import Asked, prompt_tokens
from ftclient.evaluate.task import Metric

Verdict = Literal["A", "B", "tie"]

WIN, TIE, LOSS = 1.0, 0.5, 0.0
OPTIONS: Mapping[str, Any] = {"temperature": 0, "max_tokens": 8}
_QUOTED_TIMES = 2
"""How much longer an answer may be as a string in JSON, with what is escaped in it."""
_INSTRUCTION = (
    "You are an impartial judge. You are shown a conversation, a reference answer, and two answers, A and B. Decide "
    "which of the two is closer to the reference in what it says and in its form. Length and order mean nothing. "
    'Reply with one word: "A", "B", or "tie".'
)
_WORD = re.compile(r"\b(A|B|tie)\b", re.IGNORECASE)


def messages_for(question: Question, a: Answer, b: Answer) -> list[dict[str, str]]:
    """Return what the judge is asked; answers are quoted as JSON, so that none can pass for an instruction's end."""
    shown = {
        "conversation": [{"role": each.get("role"), "content": each.get("content")} for each in question.messages],
        "reference": question.expected or [f"{call.name}({call.arguments})" for call in question.expected_calls],
        "A": a.shown,
        "B": b.shown,
    }
    return [
        {"role": "system", "content": _INSTRUCTION},
        {"role": "user", "content": json.dumps(shown, ensure_ascii=False, default=str)},
    ]


def preference(asker: Asker, by: str, question: Question, first: Answer, other: Answer) -> float:
    """Ask a model whether it prefers the other answer to the first: 1, 0, or 0.5 where it does not know.

    Raises:
        BackendError: The model cannot be asked.
    """
    if first.shown == other.shown:
        return TIE
    said = [asker.answer(by, each, OPTIONS).text for each in _both_orders(question, first, other)]
    return value_of(verdict_in(said[0]), verdict_in(said[1]))


def to_ask(
    asker: Asker, by: str, question: Question, pair: tuple[Answer | None, Answer | None], *, longest_tokens: int
) -> list[Asked]:
    """Return what the judge will be asked about a pair of answers (None: not known yet), as it is billed at most."""
    first, other = (answer or Answer(text="") for answer in pair)
    if None not in pair and first.shown == other.shown:
        return []
    n_unknown = pair.count(None)
    return [
        Asked(
            model=by,
            prompt_tokens=prompt_tokens(by, messages) + n_unknown * _QUOTED_TIMES * longest_tokens,
            answer_tokens=int(OPTIONS["max_tokens"]),
        )
        for messages in _both_orders(question, first, other)
        if n_unknown or not asker.known(by, messages, OPTIONS)
    ]


def _both_orders(question: Question, first: Answer, other: Answer) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    return messages_for(question, other, first), messages_for(question, first, other)


def verdict_in(text: str) -> Verdict:
    """Return what the judge said; anything else than one word of the three is a tie."""
    found = {word.upper() for word in _WORD.findall(text)}
    if found == {"A"}:
        return "A"
    return "B" if found == {"B"} else "tie"


def value_of(first_place: Verdict, second_place: Verdict) -> float:
    """Return what two verdicts make of an answer: a win or a loss only if both orders agree.

    Args:
        first_place: The verdict with the answer as A.
        second_place: The verdict with the answer as B.
    """
    if (first_place, second_place) == ("A", "B"):
        return WIN
    return LOSS if (first_place, second_place) == ("B", "A") else TIE


def measured(values: Mapping[str, Sequence[float]], *, first: str) -> Measured:
    """Return the preferences as a metric: in which share of questions a model's answer is preferred to the first's.

    The first has no figure of its own: nobody is preferred to themselves, and nothing was asked.
    """
    metric = Metric(name="preferred", title=f"preferred to {first}", right_from=None)
    return Measured(metric=metric, values=values)
