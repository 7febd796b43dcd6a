"""What was sent to one host is nobody else's: no other host settles it, and none is sent it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ftclient import BackendError, Client, JobNotFoundError, Supervised, UnavailableError
from ftclient.jobs.request import RUN_KEY
from tests.faults.proxy import Fault, FaultProxy
from tests.unit.jobs.test_launch import HOSTED, command_at, creations, jobs_of, on_create

RUN = "run-elsewhere"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftclient.jobs.launch.LOOKS_S", (0.0, 0.05))


@pytest.fixture
def moved(server_url: str) -> Iterator[FaultProxy]:
    """The same server at another address."""
    with FaultProxy(server_url) as running:
        yield running


@pytest.fixture
def here(tmp_path) -> Iterator[Client]:
    """The local backend in this process, with the journal of the others."""
    with Client.local(home=tmp_path / "home", engine="simulated", runner="thread") as client:
        yield client


def unanswered(connect, data, proxy) -> Client:
    """Return a client whose launch RUN was never answered."""
    client = connect(HOSTED)
    proxy.choose = on_create(Fault(drop_before=True))
    with pytest.raises(UnavailableError, match="may or may not exist"):
        client.train(client.plan(data, model="smollm2-135m"), run_id=RUN)
    return client


def test_the_same_script_at_another_host_leaves_a_launch_without_an_answer_as_it_is(
    connect, data, proxy, here: Client
) -> None:
    client = unanswered(connect, data, proxy)
    before = client._journal.launch(RUN)
    with pytest.raises(UnavailableError) as raised:
        here.train(here.plan(data, model="smollm2-135m"), run_id=RUN)
    assert f"{command_at(client)} jobs --lost`" in str(raised.value)
    assert client._journal.launch(RUN) == before
    assert here.jobs() == []


def test_a_launch_is_not_given_up_at_another_host(connect, data, proxy, here: Client) -> None:
    client = unanswered(connect, data, proxy)
    with pytest.raises(ValueError, match="was sent to ") as raised:
        here.forget_launch(RUN)
    assert f"{command_at(client)} jobs --forget={RUN}`" in str(raised.value)
    assert client._journal.launch(RUN).state == "unknown"


def test_a_job_of_one_host_is_not_asked_of_another(connect, data, here: Client) -> None:
    client = connect(HOSTED)
    job = client.train(client.plan(data, model="smollm2-135m"), run_id="run-there")
    with pytest.raises(JobNotFoundError, match=f"started {job.id} at {client.openai.base_url}"):
        here.train(here.plan(data, model="smollm2-135m"), run_id="run-there")
    assert client._journal.launch("run-there").job_id == job.id
    assert here.jobs() == []


def test_a_launch_that_one_host_has_refused_belongs_to_the_next(connect, data, proxy, moved) -> None:
    first, second = connect(HOSTED), connect(HOSTED, url=moved.url)
    proxy.choose = on_create(Fault(status=403))
    with pytest.raises(BackendError):
        first.train(first.plan(data, model="smollm2-135m"), run_id="run-next")
    moved.choose = on_create(Fault(drop_before=True))
    other = second.plan(data, model="smollm2-135m", method=Supervised(n_epochs=1))  # no job is another than this
    with pytest.raises(UnavailableError):
        second.train(other, run_id="run-next")
    assert first.find_lost() == []
    assert [each.run_id for each in second.find_lost()] == ["run-next"]
    with pytest.raises(UnavailableError):
        first.train(other, run_id="run-next")
    assert (creations(proxy), creations(moved)) == (1, 1)


@pytest.mark.parametrize("state", ["created", "unknown"])
def test_a_server_of_ones_own_at_another_port_still_has_its_jobs(connect, data, moved, state: str) -> None:
    run_id = f"run-moved-{state}"
    client, again = connect(), connect(url=moved.url)
    plan = client.plan(data, model="smollm2-135m")
    job = client.train(plan, run_id=run_id)
    if state == "unknown":  # as where the answer was lost, and the server had gone before anybody could look
        import sqlite3

        with sqlite3.connect(client.home / "client.db") as db:
            db.execute("UPDATE launches SET state = 'unknown', job_id = NULL WHERE run_id = ?", (run_id,))
        db.close()
    before = client._journal.launch(run_id)
    assert again.train(again.plan(data, model="smollm2-135m"), run_id=run_id).id == job.id
    assert client._journal.launch(run_id) == before
    assert (jobs_of(client, run_id), creations(moved)) == ([job.id], 0)
    assert client.openai.fine_tuning.jobs.retrieve(job.id).metadata == {RUN_KEY: run_id}
