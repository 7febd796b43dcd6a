"""What the curves of a job say: which checkpoint was best, and whether it went on for too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from ftclient.jobs.metrics import StepMetrics

if TYPE_CHECKING:
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

Points = list[tuple[int, float]]
"""Step and value, by step."""

_NOISE = 0.02
"""Share by which two measurements must differ to count: less is the noise of small validation files."""
_SMOOTHED = 10
"""Validation batches that are averaged where the whole file was never measured; of few, a third."""


@dataclass(frozen=True, kw_only=True)
class Overfitting:
    """Validation loss rose while training loss went on falling: the job learned its examples by heart."""

    best_step: int
    """Step with the lowest validation loss, in nats a token."""
    best_loss: float
    last_loss: float

    def __str__(self) -> str:
        """One sentence with what to do."""
        return (
            f"Validation loss was lowest at step {self.best_step} ({self.best_loss:.3f}) and has risen since "
            f"({self.last_loss:.3f}), while training loss went on falling: use the checkpoint nearest to that step, "
            "or train fewer epochs."
        )


def points_of(metrics: Sequence[StepMetrics], name: str) -> Points:
    """Return one series of the metrics, without the steps at which it was not measured."""
    found = ((row.step, getattr(row, name)) for row in metrics)
    return [(step, value) for step, value in found if value is not None]


def validation_points(metrics: Sequence[StepMetrics]) -> Points:
    """Return validation loss by step: of the whole file where that was measured, else batches, smoothed."""
    whole = points_of(metrics, "full_valid_loss")
    if len(whole) > 1:
        return whole
    batches = points_of(metrics, "valid_loss")
    n = max(1, min(_SMOOTHED, len(batches) // 3))
    windows = (batches[i : i + n] for i in range(len(batches) - n + 1 if batches else 0))
    return [(window[n // 2][0], fmean(value for _, value in window)) for window in windows] or whole


def find_overfitting(metrics: Sequence[StepMetrics]) -> Overfitting | None:
    """Return where validation turned, if it rises at the end while training loss falls; None where it does not."""
    valid, train = validation_points(metrics), points_of(metrics, "train_loss")
    if len(valid) < 2 or not train:  # noqa: PLR2004 - one point has no direction
        return None
    best_step, best_loss = min(valid, key=lambda point: point[1])
    last_loss = valid[-1][1]
    if last_loss <= best_loss * (1 + _NOISE):
        return None
    before = [loss for step, loss in train if step <= best_step]
    since = [loss for step, loss in train if step > best_step]
    if not before or not since or fmean(since) >= fmean(before[-len(since) :]):
        return None
    return Overfitting(best_step=best_step, best_loss=best_loss, last_loss=last_loss)


def best_checkpoint(
    checkpoints: Sequence[FineTuningJobCheckpoint], metrics: Sequence[StepMetrics], *, model: str | None = None
) -> FineTuningJobCheckpoint | None:
    """Return the checkpoint with the highest validation reward, or the lowest validation loss.

    Where nothing was measured, or the final model is as good but for noise, it is that of the final model.

    Args:
        checkpoints: Those of one job.
        metrics: The job's; they judge checkpoints whose own metrics lack validation.
        model: Name of the final model; None takes the last checkpoint for it.
    """
    last = max(checkpoints, key=lambda each: each.step_number, default=None)
    final = next((each for each in checkpoints if each.fine_tuned_model_checkpoint == model), last)
    rows = {row.step: row for row in metrics}
    judges: tuple[tuple[str, Callable[[float], float]], ...] = (
        ("full_valid_mean_reward", lambda value: -value),
        ("full_valid_loss", float),
        ("valid_loss", float),
    )
    for name, cost in judges:
        marks = [(_mark(each, rows, name), each) for each in checkpoints]
        costs = {each.step_number: cost(mark) for mark, each in marks if mark is not None}
        if final and len(costs) == len(checkpoints):
            best = min(checkpoints, key=lambda each: (costs[each.step_number], each.step_number))
            least = costs[best.step_number]
            is_noise = costs[final.step_number] - least <= _NOISE * abs(least)
            return final if is_noise else best
    return final


def _mark(checkpoint: FineTuningJobCheckpoint, rows: dict[int, StepMetrics], name: str) -> float | None:
    own = getattr(checkpoint.metrics, name, None)
    if isinstance(own, int | float):
        return float(own)
    row = rows.get(checkpoint.step_number)
    found: float | None = getattr(row, name) if row else None
    return found
