"""What the curves of a job say about its length and its data: learnt by heart, too little, or well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from ftclient.jobs.curves import Points, find_overfitting, points_of, validation_points
from ftclient.jobs.metrics import StepMetrics

Fit = Literal["over", "under", "good", "unknown"]

_GAP = 1.5
"""Validation loss of so many times the training loss: most of what was learnt is the examples themselves."""
_STILL_FALLING = 0.05
"""Share by which loss fell over the last third of a job that has not learnt all it could."""
_LEAST_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """How well a job fits its data."""

    fit: Fit
    evidence: Sequence[str]
    """What was seen, with figures (losses in nats a token)."""
    advice: str

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as plain values."""
        return {"fit": self.fit, "evidence": list(self.evidence), "advice": self.advice}

    def __str__(self) -> str:
        """All of it in sentences."""
        return " ".join([*self.evidence, self.advice])


def diagnose(metrics: Sequence[StepMetrics]) -> Diagnosis:
    """Return what a job's metrics say.

    Args:
        metrics: By step.
    """
    train, valid = points_of(metrics, "train_loss"), validation_points(metrics)
    if len(train) < _LEAST_STEPS:
        return _unknown(f"There are {len(train)} measured steps: too few to see a direction.")
    overfitting = find_overfitting(metrics)
    if overfitting is not None:
        seen = (
            f"Validation loss was lowest at step {overfitting.best_step} ({overfitting.best_loss:.3f}) and rose to "
            f"{overfitting.last_loss:.3f}, while training loss went on falling."
        )
        return Diagnosis(
            fit="over",
            evidence=[seen],
            advice="It learns the examples by heart: train fewer epochs, use the best checkpoint, or add examples.",
        )
    if len(valid) < 2:  # noqa: PLR2004 - one point has no direction
        return _unknown("Validation loss was not measured often enough: give a validation file.")
    return _by_level(train, valid)


def _by_level(train: Points, valid: Points) -> Diagnosis:
    third = max(1, len(train) // 3)
    ended = fmean(loss for _, loss in train[-third:])
    before = fmean(loss for _, loss in train[-2 * third : -third] or train[:third])
    last_valid, previous = valid[-1][1], valid[-2][1]
    fell = 1 - ended / before if before else 0.0
    valid_fell = 1 - last_valid / previous if previous else 0.0
    losses = f"Training loss ended at {ended:.3f}, validation loss at {last_valid:.3f}."
    if fell > _STILL_FALLING and valid_fell > _STILL_FALLING:
        return Diagnosis(
            fit="under",
            evidence=[losses, f"Both were still falling: by {fell:.0%} and {valid_fell:.0%} of themselves at the end."],
            advice="It has not learnt all that it could: train more epochs, or with a higher learning rate.",
        )
    if last_valid > _GAP * ended:
        return Diagnosis(
            fit="over",
            evidence=[losses, f"That is {last_valid / ended if ended else float('inf'):.1f} times as much."],
            advice="Much of what it learnt holds for its examples alone: add examples, or train fewer epochs.",
        )
    return Diagnosis(
        fit="good",
        evidence=[losses, "Validation loss does not rise, and the two are near to each other."],
        advice="Length and data fit: more epochs would bring little.",
    )


def _unknown(why: str) -> Diagnosis:
    return Diagnosis(fit="unknown", evidence=[why], advice="Nothing can be said about overfitting.")
