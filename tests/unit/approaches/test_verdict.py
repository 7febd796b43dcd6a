"""What is advised: the least effort that is enough, and no training whose gain chance may explain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftclient.approaches.learning_curve import curve_of
from ftclient.approaches.verdict import ADVICE, NOTHING_HELPS, UNDECIDED
from ftclient.approaches.wishes import ApproachName
from tests.unit.approaches.test_approaches import outcomes


@pytest.mark.parametrize(
    ("rights", "choice", "is_to_tune"),
    [
        ({"base": 38, "examples": 38, "lora": 40}, "base", False),
        ({"base": 10, "examples": 37, "lora": 38}, "examples", False),
        ({"base": 2, "examples": 10, "rag": 36, "lora": 12}, "rag", False),
        ({"base": 2, "examples": 10, "lora": 36, "full": 36}, "lora", True),
        ({"base": 2, "lora": 20, "full": 36}, "full", True),
        ({"base": 20, "head": 39, "lora": 40}, "head", True),
        ({"base": 20, "lora": 31}, "lora", True),
        ({"base": 28, "lora": 31}, "base", False),
    ],
)
def test_the_least_effort_that_is_enough_is_advised(
    rights: dict[ApproachName, int], choice: str, *, is_to_tune: bool
) -> None:
    found = outcomes(rights)
    assert (found.verdict.choice, found.verdict.is_to_tune) == (choice, is_to_tune)
    assert found.verdict.reasons
    assert ("Do not tune" in found.verdict.advice) is not is_to_tune


def test_what_chance_may_explain_is_called_so() -> None:
    reasons = " ".join(outcomes({"base": 28, "lora": 31}).verdict.reasons)
    assert "may be chance" in reasons
    assert "leave room for chance" in reasons
    assert "clearly less" in " ".join(outcomes({"base": 2, "lora": 36}).verdict.reasons)
    others = outcomes({"base": 28, "examples": 28, "rag": 27, "lora": 31, "full": 30}).verdict.reasons[1:4]
    for reason, words in zip(
        others, ("no real difference", "less, but that may be", "more, but that may be"), strict=True
    ):
        assert f": {words}" in reason


def test_a_base_model_that_is_no_good_is_not_said_to_do_the_task() -> None:
    for rights in ({"base": 0}, {"base": 2, "lora": 2}, {"base": 0, "examples": 0, "full": 0}):
        verdict = outcomes(rights).verdict
        assert verdict.choice == "base"
        assert "does this already" not in verdict.advice
        assert ("No tuned model" in " ".join(verdict.reasons)) is (list(rights)[-1] == "base")
    assert "does this already" in outcomes({"base": 38, "lora": 39}).verdict.advice


@pytest.mark.parametrize(
    ("rights", "choice"),
    [
        ({"base": 28, "lora": 31}, "base"),
        ({"base": 20, "lora": 25}, "base"),
        ({"base": 20, "examples": 20, "rag": 20, "lora": 24, "full": 24}, "base"),
        ({"base": 5, "examples": 25, "lora": 29}, "examples"),
        ({"base": 5, "rag": 20, "head": 23, "lora": 25}, "rag"),
    ],
)
def test_nobody_is_told_to_train_for_what_chance_may_explain(rights: dict[ApproachName, int], choice: str) -> None:
    verdict = outcomes(rights).verdict
    assert (verdict.choice, verdict.is_to_tune, verdict.advice) == (choice, False, UNDECIDED)
    assert "is ahead, but that may be chance (p = " in verdict.reasons[0]
    assert not any("clearly more" in reason for reason in verdict.reasons)
    assert any(reason.startswith("Training would take") for reason in verdict.reasons)
    assert any("with four times as many" in reason for reason in verdict.reasons)


def test_of_what_is_as_good_the_training_with_a_clear_gain_is_advised() -> None:
    # Of 20 more questions one training gets 5 right (p = 0.06), the other 6 (p = 0.03).
    verdict = outcomes({"base": 20, "head": 25, "lora": 26}).verdict
    assert (verdict.choice, verdict.advice) == ("lora", ADVICE["lora"])
    assert "nothing did better" in verdict.reasons[0]


def test_a_better_training_whose_gain_may_be_chance_is_not_said_to_take_more_effort() -> None:
    found = outcomes({"base": 20, "lora": 20, "full": 30})
    given, right = dict(found.comparison.given), found.comparison.given["full"][0]
    # One more right answer than all weights, but with 8 lost and 19 won against the base model (p = 0.05).
    rights = [8 <= number < 39 for number in range(len(given["lora"]))]
    texts = [
        question.expected if is_right else "?"
        for question, is_right in zip(found.comparison.questions, rights, strict=True)
    ]
    given["lora"] = [replace(right, text=text) for text in texts]
    verdict = replace(found, comparison=replace(found.comparison, given=given)).verdict
    assert (verdict.choice, verdict.advice) == ("full", ADVICE["full"])
    assert "is ahead, but that may be chance (p = " in verdict.reasons[0]


@pytest.mark.parametrize(
    ("rights", "n", "choice"),
    [
        ({"base": 0, "examples": 1, "lora": 30, "full": 29}, 30, "lora"),
        ({"base": 1, "examples": 0, "rag": 19, "lora": 0}, 36, "rag"),
        ({"base": 24, "examples": 24, "head": 21, "lora": 24, "full": 24}, 24, "base"),
    ],
    ids=["tickets", "handbook", "feelings"],
)
def test_the_three_tasks_of_the_example_have_three_verdicts(
    rights: dict[ApproachName, int], n: int, choice: ApproachName
) -> None:
    assert outcomes(rights, n=n).verdict.advice == ADVICE[choice]


def test_small_gains_over_what_is_good_or_near_keep_their_advice() -> None:
    assert outcomes({"base": 38, "lora": 40}).verdict.advice == ADVICE["base"]
    assert outcomes({"base": 20, "lora": 21}).verdict.advice == NOTHING_HELPS
    assert outcomes({"base": 5, "examples": 25, "lora": 26}).verdict.advice == ADVICE["examples"]


def test_where_nothing_untrained_was_compared_the_verdict_says_so() -> None:
    for rights, is_said in (({"lora": 20, "full": 22}, True), ({"base": 2, "lora": 20}, False)):
        assert ("Nothing untrained" in " ".join(outcomes(rights).verdict.reasons)) is is_said


def test_a_learning_curve_calls_chance_what_a_verdict_calls_chance() -> None:
    found = outcomes({"lora": 30, "full": 35})
    given, (first, *rest) = dict(found.comparison.given), found.comparison.given["full"]
    # Six questions mended and one broken: McNemar's exact test gives 0.125, where resampling would give 0.03.
    given["full"] = [
        replace(first, text="?"),
        *rest[:34],
        replace(first, text=found.comparison.questions[35].expected),
        *rest[35:],
    ]
    curve = curve_of(replace(found.comparison, given=given), "lora", [100, 200], n_seen=0)
    assert curve.p_value == pytest.approx(0.125)
    assert "may be chance (p = 0.12)" in curve.advice
