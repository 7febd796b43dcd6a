"""Intervals and tests against figures from the literature, and against chance itself."""

from __future__ import annotations

import math
import random

import pytest

from ftclient.evaluate.metrics import n_behind_macro_f1
from ftclient.evaluate.stats import Interval, bootstrap, mcnemar, paired_bootstrap, wilson, with_unseen
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


SHARE = Interval(0.0, 1.0)


@pytest.mark.parametrize("n", [1, 3, 30, 1000])
def test_answers_that_are_all_alike_have_wilsons_interval(n):
    for value, hits in ((1.0, n), (0.0, 0)):
        found = with_unseen(bootstrap([value] * n, mean), value, n=n, bounds=SHARE)
        assert found == pytest.approx(wilson(hits, n))
    low, high = with_unseen(bootstrap([0.5] * n, mean), 0.5, n=n, bounds=SHARE)
    assert low == pytest.approx(0.5 * wilson(n, n).low)
    assert high == pytest.approx(1 - low)


def test_room_for_the_unseen_is_never_less_than_resampling_finds_and_stays_in_bounds():
    dice = random.Random(5)
    for n in (2, 10, 60):
        values = [dice.choice([0, 0.2, 0.9, 1.0]) for _ in range(n)]
        inner = bootstrap(values, mean)
        outer = with_unseen(inner, mean(values), n=n, bounds=SHARE)
        assert 0 <= outer.low <= inner.low <= inner.high <= outer.high <= 1
    one_off, perfect = [0.6] + [1.0] * 29, [1.0] * 30
    lows = [with_unseen(bootstrap(each, mean), mean(each), n=30, bounds=SHARE).low for each in (one_off, perfect)]
    assert lows[0] < lows[1] < 0.9  # a worse result is not the surer one


def test_rare_failures_are_within_the_interval_as_often_as_it_says():
    """Three answers in 100 have nothing right: two samples of 30 in five have none of them."""
    dice, n_held, n_bare = random.Random(6), 0, 0
    for _ in range(60):
        values = [float(dice.random() > 0.03) for _ in range(30)]
        bare = bootstrap(values, mean)
        found = with_unseen(bare, mean(values), n=30, bounds=SHARE)
        n_held += found.low <= 0.97 <= found.high
        n_bare += bare.low <= 0.97 <= bare.high
    assert n_bare < 51 <= n_held  # 95 % of 60, less three standard deviations


def test_macro_f1_rests_on_fewer_questions_where_labels_are_rare():
    def kish(labels):
        weights = [1 / labels.count(label) for label in labels]
        return sum(weights) ** 2 / sum(weight * weight for weight in weights)

    for labels in (["a", "b"] * 15, ["a"] * 29 + ["b"], ["a", "b", "b", "c", "c", "c"]):
        assert n_behind_macro_f1([(label, "x") for label in labels]) == pytest.approx(kish(labels))
    assert n_behind_macro_f1([("a", "a"), ("b", "b")] * 15) == 30


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (3, 0.25), (5, 0.0625), (40, 0.001)])
def test_a_difference_on_few_questions_is_never_sure(n, p):
    """All for the better: a fair coin falls to one side n times as often as 2 in 2^n."""
    assert paired_bootstrap([0.0] * n, [1.0] * n, mean)[1] == pytest.approx(p)
    same = [0.5] * 50
    assert paired_bootstrap([*same, *[0.0] * n], [*same, *[1.0] * n], mean)[1] >= p


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
