"""What a host says of a model and an account before anything is uploaded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ftclient import AsyncClient, Client, Dataset, Plan, UnsupportedError
from tests.unit.cost.conftest import HostServer

MODEL = "gpt-4.1-mini"
WOUND_DOWN = {"error": {"message": "Winding down.", "type": "t", "param": None, "code": "training_not_available"}}


@pytest.fixture
def data(tmp_path) -> Dataset:
    lines = Dataset(
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
        for n in range(12)
    )
    return lines.write(tmp_path / "my data.jsonl")


def model(**more: Any) -> tuple[int, Any]:
    return 200, {"id": MODEL, "object": "model", "created": 1, "owned_by": "system", **more}


def page(*found: Any) -> tuple[int, Any]:
    return 200, {"object": "list", "data": list(found), "has_more": False}


def notes(made: Plan) -> dict[str, str]:
    return {note.code: note.message for note in made.warnings}


def test_nothing_but_questions_is_sent(hosted: Client, host_server: HostServer, data: Dataset) -> None:
    host_server.answers = {f"/models/{MODEL}": model(), "/fine_tuning/jobs": page({"id": "ftjob-1"})}
    found = notes(hosted.plan(data, model=MODEL))
    assert host_server.asked == [f"/models/{MODEL}", "/fine_tuning/jobs"]
    assert not {"access_unknown", "training_refused", "model_not_listed"} & set(found)


def test_the_hosts_own_shutdown_date_wins_over_the_books(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    host_server.answers = {f"/models/{MODEL}": model(shutdown_date="2099-12-31"), "/fine_tuning/jobs": page()}
    found = [note.message for note in hosted.plan(data, model=MODEL).warnings if note.code.startswith("model_")]
    assert found == [f"{MODEL} is shut down at OpenAI on 2099-12-31, together with every model tuned on it."]


def test_a_model_that_is_gone_is_said_to_be(hosted: Client, host_server: HostServer, data: Dataset) -> None:
    host_server.answers = {f"/models/{MODEL}": model(shutdown_date="2020-01-01"), "/fine_tuning/jobs": page()}
    assert "was shut down at OpenAI on 2020-01-01" in notes(hosted.plan(data, model=MODEL))["model_gone"]


def test_an_account_that_has_never_tuned_is_told_to_expect_a_refusal_and_what_to_do(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    host_server.answers = {f"/models/{MODEL}": model(), "/fine_tuning/jobs": page()}
    found = notes(hosted.plan(data, model=MODEL))
    assert "lists no fine-tuning jobs" in found["training_refused"]
    line = f"ftclient --backend local train '{data.path}' --model smollm2-135m"
    assert found["use_local"].endswith(line)


def test_a_refusal_for_the_end_of_the_service_names_the_way_out(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    host_server.answers = {f"/models/{MODEL}": (403, WOUND_DOWN)}
    found = notes(hosted.plan(data, model=MODEL))
    assert "2027-01-06" in found["training_refused"]
    assert "use_local" in found


def test_an_unknown_model_comes_with_those_of_a_similar_name(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    host_server.answers = {"/models": page({"id": "gpt-4.1-minor", "object": "model"})}
    made = hosted.plan(data, model="gpt-4.1-minl")
    found = notes(made)
    assert "does not list 'gpt-4.1-minl'" in found["model_not_listed"]
    assert "gpt-4.1-minor" in found["model_not_listed"]
    assert "price_unknown" in found
    assert made.cost_usd is None


def test_a_key_that_is_refused_leaves_a_plan_and_is_not_shown(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    said = {"error": {"message": "Incorrect key sk-test-0123456789", "type": "t", "param": None, "code": None}}
    host_server.answers = {f"/models/{MODEL}": (401, said)}
    made = hosted.plan(data, model=MODEL)
    assert made.cost_usd is not None
    assert "access_unknown" in notes(made)
    assert "sk-test-0123456789" not in str(made.to_json())


def test_a_host_that_fails_at_the_list_of_jobs_is_not_taken_for_a_refusal(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    host_server.answers = {f"/models/{MODEL}": model(), "/fine_tuning/jobs": (503, {})}
    found = notes(hosted.plan(data, model=MODEL))
    assert "access_unknown" in found
    assert "training_refused" not in found


def test_a_refusal_of_the_question_is_not_taken_for_one_of_training(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    said = {"error": {"message": "Missing scopes: api.model.read", "type": "t", "param": None, "code": None}}
    jobs_said = {"error": {"message": "Missing scopes: api.fine_tuning.jobs.read", "type": "t", "code": None}}
    for answers in (
        {f"/models/{MODEL}": (403, said)},
        {f"/models/{MODEL}": model(), "/fine_tuning/jobs": (403, jobs_said)},
    ):
        host_server.answers = answers
        found = notes(hosted.plan(data, model=MODEL))
        assert "scopes to read" in found["access_unknown"]
        assert "training_refused" not in found


def test_an_account_with_old_jobs_is_told_that_it_must_have_used_what_it_tuned(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    host_server.answers = {f"/models/{MODEL}": model(), "/fine_tuning/jobs": page({"id": "ftjob-1"})}
    found = notes(hosted.plan(data, model=MODEL))
    rule = "Since 2026-07-02, OpenAI also refuses accounts that have asked no tuned model within 60 days."
    assert found["training_if_used"] == rule
    assert rule in found["training_closing"]


def test_the_hosts_own_shutdown_date_decides_whether_tuning_pays(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    host_server.answers = {f"/models/{MODEL}": model(shutdown_date="2099-12-31"), "/fine_tuning/jobs": page()}
    used = hosted.plan(data, model=MODEL).use(calls_per_day=1, shots=20)
    assert used is not None
    assert used.days_left is not None
    assert used.days_left > 20_000


def test_a_plan_of_another_host_is_not_started_and_nothing_is_sent(
    hosted: Client, host_server: HostServer, ft_client: Client, data: Dataset, tmp_path: Path
) -> None:
    made = ft_client.plan(data, model="smollm2-135m")

    async def start() -> None:
        async with AsyncClient.openai(api_key="sk-test", base_url=host_server.url, home=tmp_path) as client:
            await client.train(made, max_cost_usd=0)

    with pytest.raises(UnsupportedError, match="Plan the job again"):
        hosted.train(made, max_cost_usd=0)
    with pytest.raises(UnsupportedError, match="Plan the job again"):
        asyncio.run(start())
    assert host_server.asked == []


def test_a_model_that_is_gone_is_not_started_unless_the_host_still_lists_it(
    hosted: Client, host_server: HostServer, data: Dataset
) -> None:
    name = "gpt-4.1-nano-2025-04-14"
    made = hosted.plan(data, model=name)
    host_server.asked.clear()
    with pytest.raises(UnsupportedError, match="shut down at OpenAI on 2026-10-23"):
        hosted.train(made)
    assert host_server.asked == []
    host_server.answers = {f"/models/{name}": model(), "/fine_tuning/jobs": page({"id": "ftjob-1"})}
    made = hosted.plan(data, model=name)
    assert "model_overdue" in notes(made)
    made.check_start(hosted.host)
