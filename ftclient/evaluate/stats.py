"""How sure one can be of a figure from so many questions. All intervals are of 95 %."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

_Z = 1.959963984540054
"""The normal distribution's 97.5th percentile."""
N_RESAMPLES = 1_000
_SEED = 20_261

_Item = TypeVar("_Item")
Total = Callable[[Sequence[_Item]], float]


class Interval(NamedTuple):
    """From where to where a figure may lie."""

    low: float
    high: float


def wilson(n_hits: int, n: int) -> Interval:
    """Return Wilson's interval for a share (Wilson 1927): sound for few questions and for shares near 0 and 1."""
    share, z2 = n_hits / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = 0.0 if n_hits == 0 else max(0.0, middle - half)
    return Interval(low, 1.0 if n_hits == n else min(1.0, middle + half))


def bootstrap(values: Sequence[_Item], total: Total[_Item]) -> Interval:
    """Return the percentile bootstrap's interval of a figure over questions.

    Args:
        values: What each question gave.
        total: The figure that they make together.
    """
    dice, n = random.Random(_SEED), len(values)  # noqa: S311 - repeatable
    return _percentiles([total(dice.choices(values, k=n)) for _ in range(N_RESAMPLES)])


def paired_bootstrap(a: Sequence[_Item], b: Sequence[_Item], total: Total[_Item]) -> tuple[Interval, float]:
    """Return the interval of `total(b) - total(a)` over the same questions, and the two-sided p-value of no difference.

    Args:
        a: What each question gave for one model.
        b: The same for another, in the same order.
        total: The figure that they make together.
    """
    dice, n = random.Random(_SEED), len(a)  # noqa: S311 - repeatable
    differences = []
    for _ in range(N_RESAMPLES):
        chosen = dice.choices(range(n), k=n)
        differences.append(total([b[i] for i in chosen]) - total([a[i] for i in chosen]))
    below = sum(each <= 0 for each in differences) / N_RESAMPLES
    above = sum(each >= 0 for each in differences) / N_RESAMPLES
    return _percentiles(differences), min(1.0, max(2 * min(below, above), 1 / N_RESAMPLES))


def mcnemar(n_better: int, n_worse: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: how often a fair coin falls as unevenly."""
    n, few = n_better + n_worse, min(n_better, n_worse)
    if n == 0:
        return 1.0
    tail = math.fsum(math.exp(_log_choose(n, k) - n * math.log(2)) for k in range(few + 1))
    return min(1.0, 2 * tail)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _percentiles(figures: list[float]) -> Interval:
    figures.sort()
    at = int(0.025 * (len(figures) - 1))
    return Interval(figures[at], figures[-1 - at])
