"""The same job launched again without a run id: an earlier launch without an answer is not doubled."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from ftclient import BackendError, Client, Supervised, UnavailableError
from tests.faults.proxy import NO_FAULT, Exchange, Fault
from tests.unit.jobs.test_launch import CREATE, HOSTED, command_at, creations, jobs_of, on_create


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftclient.jobs.launch.LOOKS_S", (0.0, 0.05))


def plan_of(client: Client, data, suffix: str, **more):
    """Return a plan that no other test has."""
    return client.plan(data, model="smollm2-135m", suffix=suffix, **more)


def deaf(exchange: Exchange) -> Fault:
    """The host creates jobs, and neither says so nor lists them."""
    if not exchange.path.startswith(CREATE[1]):
        return NO_FAULT
    return Fault(drop_after=True) if exchange.method == "POST" else Fault(status=404)


def unanswered(client: Client, plan, proxy, choose) -> str:
    """Launch without an answer and return the run id."""
    proxy.choose = choose
    with pytest.raises(UnavailableError, match="may or may not exist"):
        client.train(plan)
    proxy.choose = lambda _: NO_FAULT
    (entry,) = client._journal.launches(str(client.openai.base_url), "unknown")
    return entry.run_id


def test_the_job_of_a_launch_that_was_not_answered_is_taken_up(connect, data, proxy) -> None:
    client, said = connect(HOSTED), list[str]()
    plan = plan_of(client, data, "again-found")
    run_id = unanswered(client, plan, proxy, deaf)
    job = client.train(plan, tell=said.append)
    assert jobs_of(client, run_id) == [job.id]
    assert creations(proxy) == 1
    assert (client._journal.launch(run_id).state, client._journal.launch(run_id).job_id) == ("created", job.id)
    assert [job_id for job_id, _ in client._journal.plans(str(client.openai.base_url))] == [job.id]
    (text,) = said
    assert run_id in text
    assert job.id in text


def test_where_its_job_is_not_found_nothing_is_sent_until_somebody_decides(connect, data, proxy) -> None:
    client = connect(HOSTED)
    plan = plan_of(client, data, "again-lost")
    run_id = unanswered(client, plan, proxy, on_create(Fault(drop_before=True)))
    with pytest.raises(UnavailableError, match="may or may not exist") as raised:
        client.train(plan)
    assert f"{command_at(client)} jobs --forget={run_id}`" in str(raised.value)
    assert "--run-id" in str(raised.value)
    assert f"client.forget_launch({run_id!r})" in str(raised.value)
    assert creations(proxy) == 1
    assert client.forget_launch(run_id) is None
    job = client.train(plan)
    assert creations(proxy) == 2
    assert client.train(plan).id != job.id


@pytest.mark.parametrize("run_id", ["it's $HOME", "--help", "a b"])
def test_the_command_that_is_told_can_be_typed_whatever_the_run_id_is(connect, data, proxy, run_id: str) -> None:
    client = connect(HOSTED)
    proxy.choose = on_create(Fault(drop_before=True))
    with pytest.raises(UnavailableError) as raised:
        client.train(plan_of(client, data, "again-typed"), run_id=run_id)
    told = re.findall(r"`ftclient ([^`]*)`", str(raised.value))
    for command in told:
        typed = f"{shlex.quote(sys.executable)} -m ftclient {command}"
        subprocess.run(typed, shell=True, check=True, capture_output=True)  # noqa: S602 - as it is told
    assert len(told) == 2
    assert client._journal.launch(run_id).state == "refused"


def test_a_run_id_of_its_own_starts_another_job(connect, data, proxy) -> None:
    client = connect(HOSTED)
    plan = plan_of(client, data, "again-named")
    lost = unanswered(client, plan, proxy, deaf)
    job = client.train(plan, run_id="run-another")
    assert jobs_of(client, "run-another") == [job.id]
    assert client._journal.launch(lost).state == "unknown"


def test_another_job_is_not_held_up(connect, data, proxy) -> None:
    client = connect(HOSTED)
    unanswered(client, plan_of(client, data, "again-one"), proxy, deaf)
    other = plan_of(client, data, "again-one", method=Supervised(n_epochs=1))
    assert client.train(other).latest.metadata["ftclient_run"].startswith("run-")
    assert creations(proxy) == 2


def test_who_trains_twice_and_is_answered_has_two_jobs(connect, data) -> None:
    client, said = connect(HOSTED), list[str]()
    plan = plan_of(client, data, "again-twice")
    assert client.train(plan, tell=said.append).id != client.train(plan, tell=said.append).id
    assert said == []


def test_threads_that_train_the_same_at_once_have_a_job_each(connect, data, proxy) -> None:
    client = connect(HOSTED)
    plan = plan_of(client, data, "again-threads")
    client.upload(data)
    proxy.choose = lambda exchange: Fault(delay_s=0.3 if (exchange.method, exchange.path) == CREATE else 0.0)
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: client.train(plan).id, range(3)))
    assert len(found) == creations(proxy) == 3


def test_where_the_key_is_honoured_the_same_launch_is_sent_again(connect, data, proxy) -> None:
    client = connect()
    plan = plan_of(client, data, "again-local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftclient.jobs.launch._SENDS", 1)
        run_id = unanswered(client, plan, proxy, on_create(Fault(drop_before=True)))
    job = client.train(plan)
    assert jobs_of(client, run_id) == [job.id]


def test_where_the_files_of_an_earlier_launch_are_gone_they_are_sent_anew(connect, data, proxy, monkeypatch) -> None:
    client = connect()
    plan = plan_of(client, data, "again-gone")
    with monkeypatch.context() as patch:
        patch.setattr("ftclient.jobs.launch._SENDS", 1)
        run_id = unanswered(client, plan, proxy, on_create(Fault(drop_before=True)))
    client.delete_file(client.upload(data))
    said = list[str]()
    job = client.train(plan, tell=said.append)
    assert jobs_of(client, run_id) == [job.id]
    assert client.openai.files.retrieve(job.latest.training_file).bytes == data.size_bytes
    assert said == []  # no job was taken up


def test_a_refusal_of_an_earlier_launch_that_files_do_not_mend_is_told(connect, data, proxy, monkeypatch) -> None:
    client = connect()
    plan = plan_of(client, data, "again-refused")
    with monkeypatch.context() as patch:
        patch.setattr("ftclient.jobs.launch._SENDS", 1)
        unanswered(client, plan, proxy, on_create(Fault(drop_before=True)))
    proxy.choose = on_create(*[Fault(status=400)] * 9)
    with pytest.raises(BackendError, match="The proxy failed on purpose"):
        client.train(plan)
    assert creations(proxy) <= 3


def test_whose_jobs_were_found_is_told(connect, data, proxy) -> None:
    client, said = connect(HOSTED), list[str]()
    run_id = unanswered(client, plan_of(client, data, "again-told"), proxy, deaf)
    assert client.find_lost(tell=said.append) == []
    (text,) = said
    assert run_id in text
    assert jobs_of(client, run_id)[0] in text
