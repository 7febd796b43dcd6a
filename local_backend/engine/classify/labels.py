"""The labels of a data set: which there are, what is wrong with them, and how much each example counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from local_backend.engine.classify.examples import Example
from local_backend.engine.rows import invalid_line
from local_backend.task import JobError

MOST_SINGLE = 1000
"""Of more labels, most that are given must occur more than once: a file of conversations would take a row of weights an
answer."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The classes that a classifier tells apart."""

    names: tuple[str, ...]
    """In the order of the outputs."""
    is_multi: bool = False
    """Whether an example may have any number of them."""

    def targets(self, example: Example, *, param: str) -> tuple[int, ...]:
        """Return the outputs that are right for an example, in their order.

        Raises:
            JobError: It has a label that no training example has, or not the one label that each has; names the line.
        """
        unknown = next((label for label in example.labels if label not in self.places), None)
        if unknown is not None:
            text = f"The label {unknown[:60]!r} is not in the training file. Remove the line, or add examples of it."
            raise invalid_line(example.line, text, param)
        if not self.is_multi and len(example.labels) != 1:
            text = (
                f"Its answer is a list of {len(example.labels)} labels, and the training examples have one label each. "
                "Give it one label, or write all answers as lists."
            )
            raise invalid_line(example.line, text, param)
        return tuple(sorted(self.places[label] for label in example.labels))

    @cached_property
    def places(self) -> dict[str, int]:
        """The output of each label."""
        return {name: i for i, name in enumerate(self.names)}


def find_labels(examples: Sequence[Example]) -> Labels:
    """Return the labels of the training examples, in alphabetical order.

    Raises:
        JobError: There are fewer than two, some answers are lists and some are not, or they are no labels at all.
    """
    counts = count_labels(examples)
    is_multi = any(example.is_multi for example in examples)
    plain = next((example for example in examples if is_multi and not example.is_multi), None)
    if plain is not None:
        text = "Its answer is no JSON list of labels, but other lines' answers are. Write it as a list of one."
        raise invalid_line(plain.line, text, "training_file")
    if len(counts) < (1 if is_multi else 2):
        name = f" ({next(iter(counts))[:60]!r})" if counts else ""
        text = (
            f"All examples have the same label{name}, so there is nothing to tell apart. Add examples of other classes."
        )
        raise JobError("invalid_training_file", text, param="training_file")
    n_single = sum(count == 1 for count in counts.values())
    if len(counts) > MOST_SINGLE and 2 * n_single > counts.total():
        what = "labels" if is_multi else "answers"
        text = (
            f"{n_single:,} of {counts.total():,} {what} occur only once: they look like texts to write, not labels."
            f" Train a chat model with them, or give {what} that repeat."
        )
        raise JobError("invalid_training_file", text, param="training_file")
    return Labels(names=tuple(sorted(counts)), is_multi=is_multi)


def count_labels(examples: Sequence[Example]) -> Counter[str]:
    """How many examples have each label."""
    return Counter(label for example in examples for label in example.labels)


def lonely_labels(examples: Sequence[Example]) -> list[tuple[int, str]]:
    """Line and label of every class that has one example only: it can't be both learned and tested."""
    counts = count_labels(examples)
    return [(example.line, label) for example in examples for label in example.labels if counts[label] == 1]


def example_weights(targets: Sequence[Sequence[int]], given: Sequence[float], *, balance: str, n: int) -> list[float]:
    """Return how much each example counts: as given, or (balance `weights`) so that all classes count the same.

    The weights keep their mean, so a learning rate means the same. An example of several labels has their mean weight.
    """
    if balance != "weights":
        return list(given)
    counts = np.bincount([label for labels in targets for label in labels], minlength=n)
    by_label = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return [
        weight * (float(np.mean(by_label[list(labels)])) if labels else 1.0)
        for weight, labels in zip(given, targets, strict=True)
    ]


def epoch_order(targets: Sequence[Sequence[int]], *, balance: str, seed: int, epoch: int) -> list[int]:
    """The examples of an epoch, in order: each once, or (balance `sampling`) drawn so that classes come equally often.

    A pure function of its arguments, the same on any machine.
    """
    dice = np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch]))
    n = len(targets)
    if balance != "sampling":
        return [int(i) for i in dice.permutation(n)]
    counts = Counter(tuple(labels) for labels in targets)
    shares = np.array([1.0 / counts[tuple(labels)] for labels in targets])
    return [int(i) for i in dice.choice(n, size=n, p=shares / shares.sum())]


def set_aside(targets: Sequence[Sequence[int]], *, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Split positions into those to train on and those to validate with, class by class.

    Every class of two examples or more gives its rounded share, one at least, and keeps one at least.
    """
    dice = np.random.Generator(np.random.Philox(key=[seed % 2**64, 2**32]))
    members: dict[tuple[int, ...], list[int]] = {}
    for i in dice.permutation(len(targets)):
        members.setdefault(tuple(targets[int(i)]), []).append(int(i))
    valid = [i for group in members.values() for i in group[: min(len(group) - 1, max(1, round(share * len(group))))]]
    held = set(valid)
    return [i for i in range(len(targets)) if i not in held], sorted(valid)


def options_of(local: Mapping[str, Any]) -> dict[str, Any]:
    """What a job asks of classification, defaults filled in."""
    return {**DEFAULTS, **(local.get("classify") or {})}


DEFAULTS: Mapping[str, Any] = {
    "balance": "none",
    "label_smoothing": 0.0,
    "layer_decay": 1.0,
    "unfreeze": "at_once",
    "valid_share": 0.0,
    "warm_start": True,
    "calibrate": True,
    "augment": None,
}
