"""How good a tuned classifier is, by the validation data of its job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """One label. Shares are of 1."""

    label: str
    precision: float
    """Of the answers with this label, the share that is right."""
    recall: float
    """Of the examples of this label, the share that is found."""
    f1: float
    n: int
    """Examples of this label."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Answers that are about equally sure. Shares are of 1."""

    confidence: float
    """Mean."""
    right: float
    """Share that is right."""
    n: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether answers are right as often as they are sure."""

    ece: float
    """Expected calibration error: the mean gap between the two."""
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Classification:
    """The whole validation data after one epoch: the best one where that is kept, else the last."""

    step: int
    n: int
    """Examples."""
    accuracy: float
    macro_f1: float
    """Mean F1 of the labels, however many examples each has."""
    as_trained: Calibration
    calibrated: Calibration
    """After dividing by the temperature that was fitted to these data; that is how the model answers."""
    temperature: float
    per_class: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows are the true labels, columns the given ones, in the order of `per_class`; () for several labels each, and
    where there are very many."""
    most_confused: tuple[tuple[str, str, int], ...] = ()
    """The pairs that are mixed up most, where there is no table: true label, given label, how often."""
    temperature_note: str | None = None
    """Why the temperature says little, if it does."""

    def confused(self, *, most: int = 10) -> list[tuple[str, str, int]]:
        """True label, given label and how often, of the pairs that are mixed up most."""
        if not self.confusion:
            return list(self.most_confused[:most])
        names = [each.label for each in self.per_class]
        pairs = [
            (names[i], names[j], count)
            for i, row in enumerate(self.confusion)
            for j, count in enumerate(row)
            if i != j and count
        ]
        return sorted(pairs, key=lambda pair: -pair[2])[:most]


def classification_of(details: Mapping[str, Any]) -> Classification | None:
    """Read a classifier's figures from the details of its job; None where there are none (yet)."""
    facts = details.get("facts")
    found = facts.get("classification") if isinstance(facts, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    return Classification(
        step=int(found["step"]),
        n=int(found["n"]),
        accuracy=float(found["accuracy"]),
        macro_f1=float(found["macro_f1"]),
        as_trained=_calibration(found["as_trained"]),
        calibrated=_calibration(found["calibrated"]),
        temperature=float(found["temperature"]),
        per_class=tuple(_figures(row) for row in found["per_class"]),
        confusion=tuple(tuple(map(int, row)) for row in found.get("confusion", ())),
        most_confused=tuple((str(p["label"]), str(p["given"]), int(p["n"])) for p in found.get("confused", ())),
        temperature_note=found.get("temperature_note"),
    )


def _calibration(said: Mapping[str, Any]) -> Calibration:
    bins = (Bin(confidence=float(b["confidence"]), right=float(b["right"]), n=int(b["n"])) for b in said["bins"])
    return Calibration(ece=float(said["ece"]), bins=tuple(bins))


def _figures(row: Mapping[str, Any]) -> ClassFigures:
    return ClassFigures(
        label=str(row["label"]),
        precision=float(row["precision"]),
        recall=float(row["recall"]),
        f1=float(row["f1"]),
        n=int(row["n"]),
    )


def weakest(classes: Sequence[ClassFigures], *, most: int) -> list[ClassFigures]:
    """The labels with the lowest F1 that occur in the data."""
    return sorted((each for each in classes if each.n), key=lambda each: each.f1)[:most]
