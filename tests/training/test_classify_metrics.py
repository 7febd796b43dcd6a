"""Figures of a classifier are those of the definitions, and a temperature makes its probabilities honest."""

import json
import math

import pytest
import torch

from local_backend.engine.classify.metrics import (
    Scores,
    calibration_error,
    confusion,
    fit_temperature,
    macro,
    mean_loss,
    per_class,
    report,
)

NAMES = ["a", "b", "c"]


def scores(pairs, *, n=3, confidence=4.0):
    """Scores of (truth, given) pairs."""
    logits, targets = torch.zeros(len(pairs), n), torch.zeros(len(pairs), n)
    for i, (truth, given) in enumerate(pairs):
        logits[i, given], targets[i, truth] = confidence, 1.0
    return Scores(logits, targets, is_multi=False)


def test_precision_recall_f1_and_confusion_of_a_small_case():
    found = scores([(0, 0), (0, 0), (0, 1), (1, 1), (2, 1)])
    rows = {row["label"]: row for row in per_class(found, NAMES)}
    assert (rows["a"]["precision"], rows["a"]["recall"], rows["a"]["n"]) == (1.0, pytest.approx(2 / 3), 3)
    assert (rows["b"]["precision"], rows["b"]["recall"]) == (pytest.approx(1 / 3), 1.0)
    assert (rows["c"]["precision"], rows["c"]["recall"], rows["c"]["f1"]) == (0.0, 0.0, 0.0)
    assert macro(found)["macro_f1"] == pytest.approx((0.8 + 0.5 + 0.0) / 3)
    assert found.accuracy == pytest.approx(0.6)
    assert confusion(found).tolist() == [[2, 1, 0], [0, 1, 0], [0, 1, 0]]
    said = report(found, NAMES, temperature=1.0)
    assert said["confused"] == [{"label": "a", "given": "b", "n": 1}, {"label": "c", "given": "b", "n": 1}]


def test_labels_that_do_not_occur_do_not_lower_the_mean():
    assert macro(scores([(0, 0), (1, 1)]))["macro_f1"] == 1.0


def test_calibration_error_is_the_gap_between_confidence_and_share_right():
    confidence = math.exp(4) / (math.exp(4) + 2)
    assert calibration_error(scores([(0, 0)] * 6 + [(1, 0)] * 4)) == pytest.approx(confidence - 0.6, abs=1e-6)


def test_a_classifier_that_is_too_sure_gets_a_temperature_that_makes_it_honest():
    torch.manual_seed(0)
    honest_NL = torch.randn(4000, 3) * 1.5
    truth_N = torch.distributions.Categorical(logits=honest_NL).sample()
    targets_NL = torch.nn.functional.one_hot(truth_N, 3).float()
    sure = Scores(honest_NL * 3.0, targets_NL, is_multi=False)
    temperature = fit_temperature(sure)
    assert temperature == pytest.approx(3.0, rel=0.1)
    assert calibration_error(sure, temperature=temperature) < 0.03 < calibration_error(sure)


def test_no_other_temperature_makes_the_truth_likelier():
    torch.manual_seed(1)
    logits_NL = torch.randn(200, 4) * 2
    targets_NL = (torch.rand(200, 4) < torch.sigmoid(logits_NL * 0.5)).float()
    found = Scores(logits_NL, targets_NL, is_multi=True)
    best = fit_temperature(found)
    losses = [float(mean_loss(logits_NL / t, targets_NL, is_multi=True)) for t in (best, best * 0.95, best * 1.05)]
    assert losses[0] == min(losses)
    assert best == pytest.approx(2.0, rel=0.3)


@pytest.mark.parametrize("is_multi", [False, True])
def test_answers_that_are_all_right_make_no_classifier_certain(is_multi):
    """Among few examples an error that never came may well come; among many it is rare."""
    torch.manual_seed(2)
    targets_NL = torch.nn.functional.one_hot(torch.arange(2000) % 3, 3).float()
    logits_NL = (2 * targets_NL - 1) * 2 + torch.randn(2000, 3) * 0.3

    def unsure(n):
        temperature = fit_temperature(Scores(logits_NL[:n], targets_NL[:n], is_multi))
        typical_L = torch.tensor([2.0, -2.0, -2.0]) / temperature
        return float(1 - (torch.sigmoid(typical_L) if is_multi else torch.softmax(typical_L, 0))[0])

    assert unsure(12) > 1 / 200
    assert 1 / 20000 < unsure(2000) < 1 / 500


def test_three_examples_hardly_move_the_temperature():
    logits_NL, targets_NL = torch.tensor([[0.4, 0.1, 0.0]] * 3), torch.eye(3)[[0, 0, 1]]
    assert 0.5 < fit_temperature(Scores(logits_NL, targets_NL, is_multi=False)) < 2


def test_nothing_to_calibrate_on_leaves_probabilities_as_they_are():
    assert fit_temperature(Scores(torch.zeros(0, 3), torch.zeros(0, 3), is_multi=False)) == pytest.approx(1, abs=1e-6)


def test_a_report_says_that_a_temperature_rests_on_few_errors():
    few = report(scores([(0, 0)] * 50 + [(1, 0)] * 2), NAMES, temperature=1.0)
    assert few["temperature_note"].startswith("2 of 52 validation examples are wrong: too few")
    assert "temperature_note" not in report(scores([(0, 0)] * 50 + [(1, 0)] * 30), NAMES, temperature=1.0)


def test_thousands_of_labels_have_no_table_but_the_pairs_that_are_mixed_up_most():
    n = 3000
    pairs = [(i, i) for i in range(n)] + [(7, 2999)] * 3 + [(2999, 7)] * 5
    said = report(scores(pairs, n=n), [f"label{i}" for i in range(n)], temperature=1.0)
    assert said["confused"] == [
        {"label": "label2999", "given": "label7", "n": 5},
        {"label": "label7", "given": "label2999", "n": 3},
    ]
    assert "confusion" not in said
    assert len(json.dumps(said)) < 100 * n + 10_000


def test_several_labels_are_right_only_together():
    logits_NL, targets_NL = torch.tensor([[2.0, -2.0], [2.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert Scores(logits_NL, targets_NL, is_multi=True).accuracy == 0.5
