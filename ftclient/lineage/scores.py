"""Scores of a comparison, as they are kept with the models."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ftclient.lineage.store import Scored

if TYPE_CHECKING:
    from ftclient.data import Dataset
    from ftclient.evaluate.compare import Comparison


def scores_of(comparison: Comparison, data: Dataset) -> list[Scored]:
    """Return each model's figure in the metric that models are compared by.

    Args:
        comparison: What came of an evaluation.
        data: What was asked.
    """
    metric, now = comparison.main.metric.name, time.time()
    figures = {score.model: score.figures[metric] for score in comparison.scores if metric in score.figures}
    return [
        Scored(
            model=model,
            data_sha256=data.sha256,
            data_name=data.name,
            metric=metric,
            value=figure.value,
            low=figure.interval.low,
            high=figure.interval.high,
            n=len(comparison.questions),
            at=now,
        )
        for model, figure in figures.items()
    ]
