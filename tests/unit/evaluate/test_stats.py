"""Intervals and tests against figures from the literature, and against chance itself."""

from __future__ import annotations

import math
import random

import pytest

from ftclient.evaluate.stats import bootstrap, mcnemar, paired_bootstrap, wilson
from ftclient.evaluate.task import mean


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilsons_interval_is_the_published_one(hits, n, low, high):
    found = wilson(hits, n)
    assert found == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (10, 0, 2 / 1024), (8, 2, 0.109375), (2, 8, 0.109375), (6, 6, 1.0)],
)
def test_mcnemars_test_is_the_exact_binomial_one(better, worse, p):
    assert mcnemar(better, worse) == pytest.approx(p)


def test_mcnemars_test_takes_thousands():
    exact = 2 * sum(math.comb(3000, k) for k in range(1401)) / 2**3000
    assert mcnemar(1600, 1400) == pytest.approx(exact, rel=1e-6)


def test_the_bootstraps_interval_holds_the_true_mean_as_often_as_it_says():
    dice = random.Random(3)
    held = 0
    for _ in range(60):
        low, high = bootstrap([dice.gauss(0.4, 0.2) for _ in range(60)], mean)
        held += low <= 0.4 <= high
    assert 51 <= held <= 60  # 95 % of 60, give or take three standard deviations


def test_a_paired_difference_is_seen_where_single_intervals_overlap():
    dice = random.Random(4)
    first = [dice.random() for _ in range(80)]
    other = [value + 0.05 + dice.gauss(0, 0.02) for value in first]
    (low, high), p_value = paired_bootstrap(first, other, mean)
    assert 0.04 < low < high < 0.06
    assert p_value < 0.01
    assert bootstrap(first, mean).high > bootstrap(other, mean).low
    assert paired_bootstrap(first, first, mean)[1] == 1.0


def test_intervals_are_the_same_each_time():
    values = [0.1, 0.4, 0.9, 0.2, 0.5]
    assert bootstrap(values, mean) == bootstrap(values, mean)
