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


def with_unseen(found: Interval, value: float, *, n: float, bounds: Interval) -> Interval:
    """Return an interval that leaves room for answers of a kind that did not show up.

    Resampling draws from what was seen: where all answers are alike it gives no width at all, and 30 right ones of 30
    would be certain. What did not show up in n questions may still be a share of 1 - n / (n + z^2) of all: Wilson's
    bound for 0 of n (the "rule of three", 3 / n, is its rougher form; Hanley and Lippman-Hand 1983). Such answers can
    be as good or bad as the bounds allow, and the figure moves with them. For 1 and 0 the result is Wilson's interval.

    Args:
        found: The bootstrap's interval.
        value: The figure.
        n: How many questions it rests on.
        bounds: Between which values the figure lies in any case.
    """
    known = n / (n + _Z * _Z)
    low, high = (known * value + (1 - known) * bound for bound in bounds)
    return Interval(max(bounds.low, min(found.low, low)), min(bounds.high, max(found.high, high)))


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

    The p-value is no smaller than 2 in 2^k, where k questions came out differently: if nothing but chance decided which
    of the two gets which result, they would all fall to one side that often (Fisher's exact permutation test).

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
    n_unlike = sum(before != after for before, after in zip(a, b, strict=True))
    least = max(2.0 ** (1 - n_unlike), 1 / N_RESAMPLES)
    return _percentiles(differences), min(1.0, max(2 * min(below, above), least))


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
