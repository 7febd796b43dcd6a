"""Labels as answers: how answers are read as labels, and which figures follow; one label each, or a list of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ftclient.evaluate.metrics import LabelsPair, as_label
from ftclient.evaluate.questions import Answer, Question


class Reader:
    """Reads a text as a label: without its dress (case, quotes, a full stop), where that leaves labels unlike.

    Args:
        labels: The expected labels, as they are written.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        by_core = defaultdict[str, set[str]](set)
        for label in labels:
            by_core[as_label(label)].add(label.strip())
        self._dressed = {core for core, written in by_core.items() if len(written) > 1 or not core}
        self.n_alike = sum(len(by_core[core]) for core in self._dressed if len(by_core[core]) > 1)
        """How many labels only their dress parts, so that they are compared as they are written."""
        self.n = sum(len(written) if core in self._dressed else 1 for core, written in by_core.items())
        """How many labels there are."""

    def __call__(self, text: str) -> str:
        """Return what two texts have in common if they are the same label."""
        core = as_label(text)
        return text.strip() if core in self._dressed else core


class OneLabel:
    """Figures of answers that are one label each."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    def pair(self, question: Question, answer: Answer) -> tuple[str, str]:
        """Return the expected and the given label."""
        return self._read(question.expected), self._read(answer.text)

    def is_right(self, question: Question, answer: Answer) -> float:
        """Return 1.0 where they are the same, else 0.0."""
        expected, given = self.pair(question, answer)
        return float(expected == given)


class LabelLists:
    """Figures of answers that are JSON lists of labels, in whatever order; numbers are labels as they are written."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    def pair(self, question: Question, answer: Answer) -> LabelsPair:
        """Return the expected and the given labels; none where the answer is no list of labels."""
        return self._labels(question.expected) or (), self._labels(answer.text) or ()

    def is_right(self, question: Question, answer: Answer) -> float:
        """Return 1.0 where they are the same, else 0.0."""
        given = self._labels(answer.text)
        return float(given is not None and given == self._labels(question.expected))

    def _labels(self, text: str) -> tuple[str, ...] | None:
        found = _listed(text, numbers=str)
        return None if found is None else tuple(sorted({self._read(label) for label in found}))


def lists_of(texts: Sequence[str], *, with_numbers: bool) -> list[list[str]] | None:
    """Return the lists that texts are in JSON; None if one of them is no list of texts.

    Args:
        texts: All of them.
        with_numbers: Whether numbers count as texts, as they are written.
    """
    found = [_listed(text, numbers=str if with_numbers else None) for text in texts]
    lists = [each for each in found if each is not None]
    return lists if len(lists) == len(found) else None


def are_ordered(lists: Sequence[Sequence[str]]) -> bool:
    """Whether two lists hold the same labels in different orders, as rankings do: so their order says something."""
    read = Reader([label for each in lists for label in each])
    orders = {tuple(map(read, each)) for each in lists}
    return len({frozenset(each) for each in orders}) < len(orders)


def _listed(text: str, *, numbers: type[str] | None) -> list[str] | None:
    try:
        found: Any = json.loads(text, parse_int=numbers, parse_float=numbers)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else None
