"""Few test questions do not show that they are about labels; the training data do."""

from __future__ import annotations

import pytest

from ftclient import Client, Dataset
from ftclient.approaches import Wishes, compare, learning_curve
from ftclient.approaches.wishes import ApproachName
from tests.unit.approaches.test_approaches import LABELS, example

MODEL = "smollm2-135m"
TRAIN = Dataset(example(f"text {n}", LABELS[n % 2]) for n in range(30))
TEST = Dataset([example("Well done", "praise"), example("It broke", "complaint")])


def test_a_head_is_trained_where_the_training_data_have_labels(ft_client: Client) -> None:
    found = compare(ft_client, TRAIN, TEST, model=MODEL, wishes=Wishes(approaches=("base", "head")))
    assert set(found.comparison.given) == {"base", "head"}
    assert found.comparison.main.metric.name == "accuracy"
    assert found.comparison.kind.reason == "the training data have labels: the 2 expected answers are 2 labels"


@pytest.mark.parametrize("approach", ["head", "lora"])
def test_a_learning_curve_of_labels_is_one_of_accuracy(ft_client: Client, approach: ApproachName) -> None:
    wishes = Wishes(approaches=(approach,))
    found = learning_curve(ft_client, TRAIN, TEST, model=MODEL, fractions=(0.5, 1), wishes=wishes)
    assert (found.approach, found.metric) == (approach, "accuracy")
