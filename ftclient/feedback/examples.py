"""Feedback as training examples: of two things said to the same answer, the last one counts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftclient.feedback.store import Feedback


def supervised(feedback: Sequence[Feedback]) -> list[dict[str, Any]]:
    """Return examples of what should have been answered: the last correction or good answer to each question.

    A correction that somebody has called bad since is no example.

    Args:
        feedback: Oldest first, as the store gives it.
    """
    wanted: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for said in _last_words(feedback):
        answers, answer = wanted[_key(said.messages)], _wanted(said)
        answers.pop(said.answer, None)  # an earlier correction to it holds no more
        if answer is not None:
            answers.pop(answer, None)
            answers[answer] = _example(said.messages, answer)
    return [list(answers.values())[-1] for answers in wanted.values() if answers]


def preferences(feedback: Sequence[Feedback]) -> list[dict[str, Any]]:
    """Return pairs of a better and a worse answer to the same question, as DPO learns from.

    A correction is better than what it corrects, and a good answer is better than a bad one.

    Args:
        feedback: Oldest first, as the store gives it.
    """
    pairs: dict[tuple[str, str, str], dict[str, Any]] = {}
    for said, better, worse in _pairs(_last_words(feedback)):
        if better.strip() != worse.strip():
            pairs[_key(said.messages), better, worse] = {
                "input": {"messages": list(said.messages)},
                "preferred_output": [{"role": "assistant", "content": better}],
                "non_preferred_output": [{"role": "assistant", "content": worse}],
            }
    return list(pairs.values())


def _pairs(last: Sequence[Feedback]) -> Iterator[tuple[Feedback, str, str]]:
    good: dict[str, list[Feedback]] = defaultdict(list)
    bad: dict[str, list[Feedback]] = defaultdict(list)
    for said in last:
        if said.correction is not None:
            yield said, said.correction, said.answer
        elif said.verdict is not None:
            (good if said.verdict == "good" else bad)[_key(said.messages)].append(said)
    for question, better in good.items():
        for one in better:
            for other in bad[question]:
                yield one, one.answer, other.answer


def _last_words(feedback: Sequence[Feedback]) -> list[Feedback]:
    """Keep of several things said to the same answer the last, in the order in which they were said."""
    last: dict[tuple[str, str], Feedback] = {}
    for said in feedback:
        answered = _key(said.messages), said.answer
        last.pop(answered, None)  # a key that is there would keep its place
        last[answered] = said
    return list(last.values())


def _wanted(said: Feedback) -> str | None:
    return said.correction if said.correction is not None else said.answer if said.verdict == "good" else None


def _example(messages: Sequence[Mapping[str, Any]], answer: str) -> dict[str, Any]:
    return {"messages": [*messages, {"role": "assistant", "content": answer}]}


def _key(messages: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(messages), sort_keys=True, ensure_ascii=False)
