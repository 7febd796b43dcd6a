"""Jobs that earlier comparisons have run: found again, or run anew where they are another home's or left no model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from openai.types.fine_tuning import FineTuningJob

from ftclient import Client, Dataset, hosts
from ftclient.approaches import Audience, LearningCurve, Outcomes, Wishes, compare, learning_curve
from ftclient.approaches.training import ask_trained
from ftclient.errors import BackendError
from ftclient.jobs.job import Job
from tests.unit.approaches.test_approaches import example

MODEL = "smollm2-135m"
TRAIN = Dataset([example(f"question {n}", f"answer {n}") for n in range(30)])
TEST = Dataset([example("What does a card cost?", "5 euros"), example("Where is the door?", "In hall A")])
OTHER = Dataset([example("Who has the key?", "Jo")])


def compared(
    client: Client, test: Dataset = TEST, tell: Callable[[str], None] = print, *, fresh: bool = False
) -> Outcomes:
    """The base model and LoRA."""
    wishes = Wishes(approaches=("base", "lora"), fresh=fresh)
    return compare(client, TRAIN, test, model=MODEL, wishes=wishes, audience=Audience(tell=tell))


def deleted_at_once(client: Client) -> Audience:
    """Somebody else deletes each model as soon as it is there."""

    def follow(job: Job) -> FineTuningJob:
        job.wait()
        ended = job.refresh()
        client.delete_model(str(ended.fine_tuned_model))
        return ended

    return Audience(follow=follow)


def tuned(client: Client) -> str:
    """The model of the comparison's job."""
    return compared(client).trained["lora"].model


def test_a_model_that_was_deleted_is_trained_again_and_found_again(ft_client: Client) -> None:
    told: list[str] = []
    first = tuned(ft_client)
    ft_client.delete_model(first)
    second = compared(ft_client, tell=told.append)
    assert second.trained["lora"].model != first
    assert f"{first} was deleted; a new model takes its place." in told
    assert compared(ft_client).trained == second.trained
    assert len(ft_client.jobs()) == 2
    ft_client.delete_model(second.trained["lora"].model)
    assert tuned(ft_client) not in (first, second.trained["lora"].model)
    assert len(ft_client.jobs()) == 3


def test_two_homes_compare_the_same_at_one_server(ft_client: Client, tmp_path: Path) -> None:
    other = Client(ft_client.openai, host=ft_client.host, home=tmp_path / "other")
    first, second = compared(ft_client).trained["lora"], compared(other).trained["lora"]
    assert first.job_id != second.job_id
    assert compared(other).trained["lora"] == second


def test_of_a_learning_curve_only_the_models_that_were_deleted_are_trained_again(ft_client: Client) -> None:
    def drawn() -> LearningCurve:
        return learning_curve(ft_client, TRAIN, TEST, model=MODEL, fractions=(0.5, 1))

    first = drawn()
    ft_client.delete_model(first.points[0].model)
    second, third = drawn(), drawn()
    assert [point.n_examples for point in second.points] == [15, 30]
    assert second.points[0].model != first.points[0].model
    assert second.points[1].model == first.points[1].model
    assert third.to_json() == second.to_json()
    assert len(ft_client.jobs()) == 3


@pytest.fixture
def openai(ft_client: Client) -> Client:
    """A client that goes by the rules of a host that charges."""
    return Client(ft_client.openai, host=hosts.OPENAI, home=ft_client.home)


def test_a_host_that_charges_trains_again_only_for_questions_that_were_not_answered(openai: Client) -> None:
    first = tuned(openai)
    openai.delete_model(first)
    assert tuned(openai) == first, "all answers are at hand"
    assert len(openai.jobs()) == 1
    assert compared(openai, OTHER).trained["lora"].model != first
    assert len(openai.jobs()) == 2


@pytest.fixture
def asked(ft_client: Client) -> Counter[str]:
    """How often each model was asked over HTTP."""
    found: Counter[str] = Counter()

    def count(request: httpx2.Request) -> None:
        if request.url.path.endswith("/chat/completions"):
            found[json.loads(request.content)["model"]] += 1

    ft_client.openai._client.event_hooks["request"].append(count)
    return found


def test_who_asks_afresh_asks_nobody_twice_though_a_model_was_deleted(openai: Client, asked: Counter[str]) -> None:
    first, told = tuned(openai), list[str]()
    openai.delete_model(first)
    asked.clear()
    second = compared(openai, tell=told.append, fresh=True).trained["lora"].model
    assert asked == {MODEL: len(TEST), second: len(TEST)}
    assert told.count(f"{first} was deleted; a new model takes its place.") == 1
    compared(openai, fresh=True)
    assert asked == {MODEL: 2 * len(TEST), second: 2 * len(TEST)}
    assert len(openai.jobs()) == 2


def test_a_fresh_learning_curve_asks_nobody_twice_though_a_model_was_deleted(
    openai: Client, asked: Counter[str]
) -> None:
    def drawn(*, fresh: bool) -> list[str]:
        curve = learning_curve(openai, TRAIN, TEST, model=MODEL, fractions=(0.5, 1), wishes=Wishes(fresh=fresh))
        return [point.model for point in curve.points]

    first = drawn(fresh=False)
    openai.delete_model(first[1])
    asked.clear()
    second = drawn(fresh=True)
    assert asked == dict.fromkeys(second, len(TEST))
    assert (second[0], len(openai.jobs())) == (first[0], 3)


@pytest.mark.parametrize("fresh", [False, True])
def test_what_this_call_has_trained_is_not_trained_a_second_time(openai: Client, *, fresh: bool) -> None:
    """Nobody has agreed to another job, and hosts may be slow to answer for a new model."""
    if fresh:
        openai.delete_model(tuned(openai))
    n_jobs = len(openai.jobs())
    wishes = Wishes(approaches=("base", "lora"), fresh=fresh)
    with pytest.raises(BackendError, match="does not exist"):
        compare(openai, TRAIN, TEST, model=MODEL, wishes=wishes, audience=deleted_at_once(openai))
    assert len(openai.jobs()) == n_jobs + 1


def test_a_host_that_may_not_list_tuned_models_trains_nothing_again(ft_client: Client) -> None:
    crusoe = Client(ft_client.openai, host=hosts.CRUSOE, home=ft_client.home)
    crusoe.delete_model(tuned(crusoe))
    with pytest.raises(BackendError, match="does not exist"):
        compared(crusoe, OTHER)
    assert len(crusoe.jobs()) == 1


def test_what_a_host_does_not_know_besides_is_no_reason_to_train_again(ft_client: Client) -> None:
    compared(ft_client)
    trained = compared(ft_client).trained  # found again
    for status in (404, 400):

        def refuse(_models: object, status: int = status) -> None:
            raise BackendError("refused", status_code=status)

        with pytest.raises(BackendError, match="refused"):
            ask_trained(ft_client, trained, refuse, again=pytest.fail)
    ft_client.delete_model(trained["lora"].model)
    with pytest.raises(BackendError, match="refused"):
        ask_trained(ft_client, trained, refuse, again=pytest.fail)
