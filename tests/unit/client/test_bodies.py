"""What the create body looks like on the wire."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from ftclient import (
    DPO,
    Dataset,
    Evaluation,
    Full,
    Head,
    LastLayers,
    LocalOptions,
    LoRA,
    Reinforcement,
    Simulate,
    Supervised,
)
from ftclient.jobs.request import RUN_KEY, JobRequest

EXAMPLES = Dataset([{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}])


def test_auto_is_left_to_the_host() -> None:
    assert Supervised().body() == {"type": "supervised", "supervised": {}}
    assert Supervised(n_epochs=3).body() == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}


def test_dpo_and_reinforcement_have_their_own_fields() -> None:
    assert DPO(beta=0.2).body()["dpo"] == {"hyperparameters": {"beta": 0.2}}
    body = Reinforcement(grader={"type": "string_check"}, reasoning_effort="low").body()
    assert body["reinforcement"] == {
        "grader": {"type": "string_check"},
        "hyperparameters": {"reasoning_effort": "low"},
    }


@pytest.mark.parametrize(
    "wrong", [{"n_epochs": 0}, {"n_epochs": 51}, {"batch_size": 257}, {"learning_rate_multiplier": 0}]
)
def test_hyperparameters_outside_the_documented_ranges_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Supervised(**wrong)


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (LocalOptions(), {}),
        (
            LocalOptions(tune=LoRA(rank=8, targets=("q_proj",))),
            {
                "tune": {
                    "type": "lora",
                    "rank": 8,
                    "alpha": 32.0,
                    "dropout": 0.0,
                    "targets": ["q_proj"],
                    "variant": "lora",
                }
            },
        ),
        (LocalOptions(tune=Full()), {"tune": {"type": "full"}}),
        (LocalOptions(tune=LastLayers(n=2)), {"tune": {"type": "last_layers", "n": 2}}),
        (LocalOptions(tune=Head(), learning_rate=0.01), {"tune": {"type": "head"}, "learning_rate": 0.01}),
        (LocalOptions(evaluation=Evaluation(keep_best=True)), {"evaluation": {"keep_best": True}}),
        (LocalOptions(simulate=Simulate(speed="step")), {"simulate": {"speed": "step"}}),
    ],
)
def test_local_options_send_what_differs_from_the_defaults(options: LocalOptions, body: dict[str, object]) -> None:
    assert options.body() == body


def test_the_run_id_travels_beside_the_users_metadata() -> None:
    request = JobRequest(model="m", train=EXAMPLES, metadata={"team": "support"}, seed=7, suffix="v2")
    assert request.body(training_file="file-1", validation_file=None, run_id="run-1") == {
        "model": "m",
        "training_file": "file-1",
        "method": {"type": "supervised", "supervised": {}},
        "suffix": "v2",
        "seed": 7,
        "metadata": {"team": "support", RUN_KEY: "run-1"},
    }


def test_fields_that_only_one_host_knows_go_through() -> None:
    more = {"method": {"dpo": {"hyperparameters": {"l2_multiplier": 0.1}}}, "priority": 1}
    request = JobRequest(model="m", train=EXAMPLES, method=DPO(beta=0.2), extra_body=more)
    body = request.body(training_file="f", validation_file=None)
    assert body["priority"] == 1
    assert body["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "l2_multiplier": 0.1}}}


@pytest.mark.parametrize(
    ("more", "place", "argument"),
    [
        ({"model": "gpt-4.1"}, "model", "model="),
        ({"training_file": "file-9"}, "training_file", "the dataset"),
        ({"validation_file": "file-9"}, "validation_file", "valid="),
        ({"trainingType": "standard"}, "trainingType", "training_type="),
        ({"metadata": {RUN_KEY: "run-2"}}, "metadata", "metadata="),
        ({"hyperparameters": {"n_epochs": 50}}, "hyperparameters.n_epochs", "method=DPO("),
        ({"hyperparameters": "many"}, "hyperparameters", "method=DPO("),
        ({"method": {"type": "supervised"}}, "method.type", "method="),
        ({"method": {"supervised": {}}}, "method.supervised", "method="),
        ({"method": None}, "method", "method=DPO("),
        ({"method": {"dpo": 1}}, "method.dpo", "method=DPO("),
        ({"method": {"dpo": {"hyperparameters": None}}}, "method.dpo.hyperparameters", "method=DPO("),
        ({"seed": 1}, "seed", "seed="),
        ({"method": {"dpo": {"hyperparameters": {"beta": 2}}}}, "method.dpo.hyperparameters.beta", "method=DPO("),
    ],
)
def test_further_fields_cannot_change_what_is_planned(more: dict[str, object], place: str, argument: str) -> None:
    with pytest.raises(ValueError, match=f"names {re.escape(place)}, .*: use {re.escape(argument)}"):
        JobRequest(model="m", train=EXAMPLES, method=DPO(beta=0.2), extra_body=more)


def test_azures_training_type_goes_by_its_own_name_and_is_nowhere_unless_chosen() -> None:
    request = JobRequest(model="m", train=EXAMPLES, training_type="developerTier")
    assert request.body(training_file="f", validation_file=None)["trainingType"] == "developerTier"
    plain = JobRequest(model="m", train=EXAMPLES)
    assert "trainingType" not in plain.body(training_file="f", validation_file=None)
