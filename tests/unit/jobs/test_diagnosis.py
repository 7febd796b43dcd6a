"""What curves say of a job."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ftclient.jobs.diagnosis import diagnose
from ftclient.jobs.metrics import StepMetrics


def curves(train: Sequence[float], valid: Sequence[float]) -> list[StepMetrics]:
    """A job whose whole validation file was measured at even steps."""
    every = len(train) // max(1, len(valid))
    at = {every * (number + 1): loss for number, loss in enumerate(valid)}
    return [
        StepMetrics(step=step, train_loss=loss, full_valid_loss=at.get(step))
        for step, loss in enumerate(train, start=1)
    ]


FALLING = [2.0, 1.5, 1.2, 1.0, 0.8, 0.6, 0.45, 0.35, 0.25, 0.2, 0.15, 0.1]
LEVEL = [2.0, 1.4, 1.1, 1.0, 0.99, 0.98, 0.98, 0.97, 0.97, 0.97, 0.97, 0.97]


@pytest.mark.parametrize(
    ("train", "valid", "fit", "said"),
    [
        (FALLING, [1.2, 0.9, 1.3], "over", "lowest at step 8"),
        (FALLING, [1.2, 0.91, 0.9], "over", "times as much"),
        (FALLING, [1.5, 0.8, 0.2], "under", "still falling"),
        (LEVEL, [1.2, 1.02, 1.01], "good", "near to each other"),
        (LEVEL, [], "unknown", "validation file"),
        (LEVEL[:3], [1.0], "unknown", "too few"),
    ],
)
def test_curves_are_read(train: list[float], valid: list[float], fit: str, said: str) -> None:
    found = diagnose(curves(train, valid))
    assert found.fit == fit
    assert said in str(found)
    assert found.to_json()["advice"]
