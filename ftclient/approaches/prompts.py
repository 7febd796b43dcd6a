"""What the untrained approaches ask: the question alone, with examples before it, with passages beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftclient.evaluate.metrics import as_label, shared_words
from ftclient.evaluate.questions import Answer, Question
from ftclient.evaluate.retrieval import Hit, with_passages
from ftclient.evaluate.retrieval.prompt import without_citations

Messages = Sequence[Mapping[str, Any]]
Ask = Callable[[Question], Messages]
Find = Callable[[Question], Sequence[Hit]]

_CITED_FROM = 0.05
"""A passage that shares less with an answer is not cited for it."""


def choose_shots(examples: Sequence[Question], n: int) -> list[Question]:
    """Return examples for a prompt: short ones, and of as many different answers as there is room for.

    Args:
        examples: The training data.
        n: How many.
    """
    by_answer: dict[str, list[Question]] = defaultdict(list)
    for example in sorted(examples, key=_length):
        if not example.expected_calls:
            by_answer[as_label(example.expected)].append(example)
    chosen: list[Question] = []
    while by_answer and len(chosen) < n:
        for answer in list(by_answer):
            chosen.append(by_answer[answer].pop(0))
            if not by_answer[answer]:
                del by_answer[answer]
            if len(chosen) == n:
                break
    return chosen


def with_shots(question: Question, shots: Sequence[Question], *, shown: Find | None = None) -> Messages:
    """Return a question's messages with examples before its last turn.

    Args:
        question: What is asked.
        shots: The examples.
        shown: Finds passages for the question and for each example; its answer then cites the passage that has it.
    """
    system = [message for message in question.messages if message.get("role") in {"system", "developer"}]
    turns = [message for message in question.messages if message.get("role") not in {"system", "developer"}]
    before: list[Mapping[str, Any]] = []
    for shot in shots:
        hits = shown(shot) if shown else []
        before += with_passages([_last_user(shot)], hits)
        before.append({"role": "assistant", "content": _citing(shot.expected, hits)})
    return [*system, *before, *(with_passages(turns, shown(question)) if shown else turns)]


def uncited(answer: Answer) -> Answer:
    """Return an answer as one that was given without passages, to compare it with others."""
    return replace(answer, text=without_citations(answer.text))


def _citing(answer: str, hits: Sequence[Hit]) -> str:
    if not hits:
        return answer
    shared = [shared_words(answer, hit.passage.text) for hit in hits]
    best = max(range(len(hits)), key=lambda place: shared[place])
    return f"{answer} [{best + 1}]" if shared[best] >= _CITED_FROM else answer


def _last_user(question: Question) -> Mapping[str, Any]:
    said = [message for message in question.messages if message.get("role") == "user"]
    return said[-1] if said else {"role": "user", "content": question.text}


def _length(question: Question) -> int:
    return len(question.text) + len(question.expected)
