"""Which of two answers a model prefers, asked twice with the answers' places changed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from ftclient.errors import FtclientError
from ftclient.evaluate import reasoning
from ftclient.evaluate.asking import Asker
from ftclient.evaluate.compare import Measured
from ftclient.evaluate.questions import Answer, Question
from ftclient.evaluate.spending import Asked, beginning, prompt_tokens
from ftclient.evaluate.task import Metric

Verdict = Literal["A", "B", "tie"]

WIN, TIE, LOSS = 1.0, 0.5, 0.0
OPTIONS: Mapping[str, Any] = {"temperature": 0, "max_tokens": 8, reasoning.ROOM: reasoning.TOKENS}
_QUOTED_TIMES = 2
"""How much longer an answer may be as a string in JSON, with what is escaped in it; the judge is shown no more."""
_INSTRUCTION = (
    "You are an impartial judge. You are shown a conversation, a reference answer, and two answers, A and B. Decide "
    "which of the two is closer to the reference in what it says and in its form. Length and order mean nothing. "
    'Reply with one word: "A", "B", or "tie".'
)
_LETTER = re.compile(r"\W*([AB])\W*", re.IGNORECASE)
_WORD = re.compile(r"\b((?i:(?:a )?tie|both|neither|equal)|A|B)\b")
"""Within a sentence a small `a` is no verdict, and `A tie` is one."""
_SHOWN_REPLY = 40
_MANY = 10
"""Without a verdict on so many pairs a judge does not work; fewer may be hard to tell apart."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """What a judge made of a pair of answers."""

    value: float
    """1 where it prefers the other one, 0 where it prefers the first, 0.5 where it does not know."""
    was_asked: bool = True
    """False where both answers are the same."""
    fault: str | None = None
    """Why there is no verdict, in words; the value is then that of a tie."""


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


def shown_to(by: str, answer: Answer, *, longest_tokens: int) -> Answer:
    """Return an answer as the judge is shown it: only the beginning of one that takes more tokens than are counted.

    Runs of line breaks do, which are a token each in JSON.
    """
    return Answer(text=beginning(by, answer.shown, most_tokens=_QUOTED_TIMES * longest_tokens))


def preference(asker: Asker, by: str, question: Question, first: Answer, other: Answer) -> Preference:
    """Ask a model whether it prefers the other answer to the first.

    Raises:
        BackendError: The model cannot be asked.
    """
    if first.shown == other.shown:
        return Preference(value=TIE, was_asked=False)
    replies = [asker.answer(by, each, OPTIONS) for each in _both_orders(question, first, other)]
    verdicts = [verdict_in(reply.text) for reply in replies]
    faults = [_fault(reply) for reply, verdict in zip(replies, verdicts, strict=True) if verdict is None]
    return Preference(value=value_of(*verdicts), fault=faults[0] if faults else None)


def check_worked(by: str, found: Sequence[Preference]) -> str | None:
    """Return in words that a judge never gave a verdict, on the few pairs there were; None if it did.

    Its preferences are no figure then: they would say that all answers are equally good.

    Raises:
        FtclientError: It did not on many; with the first reason.
    """
    asked, faults = [each for each in found if each.was_asked], _faults(found)
    if not faults or len(faults) < len(asked):
        return None
    if len(asked) < _MANY:
        return (
            f"the judge {by} gave no verdict on any of the pairs of answers that differ ({len(asked)}), so that there "
            f"is no figure of it: {faults[0]}"
        )
    raise FtclientError(
        f"The judge {by} gave no verdict on any of {len(asked):,} pairs of answers: {faults[0]}. The answers are "
        "kept: with another judge, none of them is asked for again."
    )


def complaint(by: str, found: Sequence[Preference]) -> str | None:
    """Return in words on how many pairs there is no verdict, and why on the first of them; None if there always is."""
    faults = _faults(found)
    if not faults:
        return None
    return (
        f"the judge {by} gave no verdict on {len(faults):,} of {len(found):,} pairs of answers, which count as ties: "
        f"{faults[0]}"
    )


def _faults(found: Sequence[Preference]) -> list[str]:
    return [each.fault for each in found if each.fault is not None]


def _fault(reply: Answer) -> str:
    """Why a reply without a verdict has none."""
    if reply.error is not None:
        return reply.error.rstrip(".")
    if reply.finish_reason == "content_filter":
        return "it refused"
    return (
        "it was cut off before it said anything"
        if reasoning.is_cut_off(reply)
        else f"it said {reply.text[:_SHOWN_REPLY]!r}"
    )


def to_ask(
    asker: Asker, by: str, question: Question, pair: tuple[Answer | None, Answer | None], *, longest_tokens: int
) -> list[Asked]:
    """Return what the judge will be asked about a pair of answers (None: not known yet), as it is billed at most."""
    first, other = (shown_to(by, answer or Answer(text=""), longest_tokens=longest_tokens) for answer in pair)
    if None not in pair and first.shown == other.shown:
        return []
    n_unknown = pair.count(None)
    return [
        Asked(
            model=by,
            prompt_tokens=prompt_tokens(by, messages) + n_unknown * _QUOTED_TIMES * longest_tokens,
            answer_tokens=reasoning.most_tokens(by, OPTIONS),
        )
        for messages in _both_orders(question, first, other)
        if n_unknown or not asker.known(by, messages, OPTIONS)
    ]


def _both_orders(question: Question, first: Answer, other: Answer) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    return messages_for(question, other, first), messages_for(question, first, other)


def verdict_in(text: str) -> Verdict | None:
    """Return what the judge said; None where that is not one of the three words, or several of them."""
    letter = _LETTER.fullmatch(text)
    found = {letter[1].upper()} if letter else {word if word in ("A", "B") else "tie" for word in _WORD.findall(text)}
    return cast("Verdict", found.pop()) if len(found) == 1 else None


def value_of(first_place: Verdict | None, second_place: Verdict | None) -> float:
    """Return what two verdicts make of an answer: a win or a loss only if both orders agree.

    Args:
        first_place: The verdict with the answer as A; None if there is none.
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
