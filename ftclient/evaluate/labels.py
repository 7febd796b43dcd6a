"""Labels as answers: how answers are read as labels, and which figures follow; one label each, or a list of them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ftclient.evaluate.metrics import LabelsPair, as_label, without_signs
from ftclient.evaluate.questions import Answer, Question

_RARE = 0.05
"""A spelling that comes less often, against the commonest that is alike, is taken for a slip of the pen."""


class Reader:
    """Reads a text as a label: without its dress (case, quotes, a full stop), as far as that leaves labels unlike.

    A text is the label that it is written like. Failing that it is the only one that is like it without signs, or
    without case, or without both.

    Args:
        labels: The expected labels, as they are written.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        alike = defaultdict[str, Counter[str]](Counter)
        for label in labels:
            alike[as_label(label)][label.strip()] += 1
        kept = [_kept(spellings) if core else list(spellings) for core, spellings in alike.items()]
        self.n_alike = sum(len(spellings) for spellings in kept if len(spellings) > 1)
        """How many labels only their dress parts, so that it is kept where it does."""
        self.n = sum(map(len, kept))
        """How many labels there are."""
        known = {label for spellings in kept for label in spellings}
        self.slips = [each for spellings in alike.values() for each in spellings if each not in known]
        """Rare spellings, which are read as the common ones."""
        self._steps = [(undress, _sole(undress, known)) for undress in (str.strip, without_signs, _lower, as_label)]

    def __call__(self, text: str) -> str:
        """Return the label that a text is; the text itself where it is none."""
        found = (labels.get(undress(text)) for undress, labels in self._steps)
        return next((label for label in found if label is not None), text.strip())


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


def _kept(spellings: Counter[str]) -> list[str]:
    """The spellings that are not rare against the commonest one."""
    most = max(spellings.values())
    return [each for each, n in spellings.items() if n >= _RARE * most]


def _sole(undress: Callable[[str], str], labels: Iterable[str]) -> dict[str, str]:
    """The labels by what is left of them without some dress, where that is something, and one label's alone."""
    left = defaultdict[str, list[str]](list)
    for label in labels:
        left[undress(label)].append(label)
    return {key: found[0] for key, found in left.items() if len(found) == 1 and (key or undress is str.strip)}


def _lower(text: str) -> str:
    return " ".join(text.split()).casefold()


def _listed(text: str, *, numbers: type[str] | None) -> list[str] | None:
    try:
        found: Any = json.loads(text, parse_int=numbers, parse_float=numbers)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else None
