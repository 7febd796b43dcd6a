"""A launch that another process has sent and that may still be answered is neither given up nor called lost."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ftclient import Client, UnavailableError
from ftclient.jobs import journal as journals
from ftclient.jobs.journal import Journal, Launch
from tests.faults.proxy import NO_FAULT, Exchange, Fault
from tests.unit.jobs.test_launch import CREATE, HOSTED, creations, jobs_of, on_create

RUN = "run-under-way"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftclient.jobs.launch.LOOKS_S", (0.0, 0.05))


class Hanging:
    """Keeps the request for a job until it is let go."""

    def __init__(self) -> None:
        self.has_come = threading.Event()
        self.fault = Fault(delay_s=3.0)

    def __call__(self, exchange: Exchange) -> Fault:
        if (exchange.method, exchange.path) != CREATE:
            return NO_FAULT
        self.has_come.set()
        return self.fault


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as running:
        yield running


def test_a_launch_in_another_terminal_is_not_given_up(connect, data, proxy, pool) -> None:
    client, other = connect(HOSTED), connect(HOSTED)
    plan, hanging = client.plan(data, model="smollm2-135m"), Hanging()
    client.upload(data)
    proxy.choose = hanging
    first = pool.submit(lambda: client.train(plan, run_id=RUN))
    assert hanging.has_come.wait(30)
    (listed,) = other.find_lost()
    assert (listed.run_id, listed.state, listed.is_under_way) == (RUN, "intended", True)
    with pytest.raises(ValueError, match="may still be answered"):
        other.forget_launch(RUN)
    with pytest.raises(UnavailableError, match="may still be on its way"):
        other.train(plan, run_id=RUN)
    assert client._journal.launch(RUN).state == "intended"
    assert [first.result().id] == jobs_of(client, RUN)
    assert creations(proxy) == 1


def age(client: Client, run_id: str, *, seconds: float) -> None:
    """Make a launch one that was sent so long ago by a process that was killed before it heard of it."""
    with sqlite3.connect(client.home / "client.db") as db:
        written = "UPDATE launches SET state = 'intended', updated_at = ? WHERE run_id = ?"
        db.execute(written, (time.time() - seconds, run_id))
    db.close()


def left_behind(client: Client, plan, proxy, run_id: str) -> None:
    """Leave a launch of which the host knows nothing."""
    proxy.choose = on_create(Fault(drop_before=True))
    with pytest.raises(UnavailableError):
        client.train(plan, run_id=run_id)
    age(client, run_id, seconds=1)


def test_what_a_killed_process_left_can_be_given_up_once_no_answer_can_come_any_more(connect, data, proxy) -> None:
    client, run_id = connect(HOSTED), "run-left-behind"
    plan = client.plan(data, model="smollm2-135m")
    left_behind(client, plan, proxy, run_id)
    age(client, run_id, seconds=journals.UNDER_WAY_S - 90)
    with pytest.raises(ValueError, match=r"Try again in 2 min\."):
        client.forget_launch(run_id)
    age(client, run_id, seconds=journals.UNDER_WAY_S)
    with pytest.raises(UnavailableError, match="gave no sure answer"):
        client.train(plan, run_id=run_id)
    assert client.forget_launch(run_id) is None
    job = client.train(plan, run_id=run_id)
    assert jobs_of(client, run_id) == [job.id]


def test_the_same_job_without_a_run_id_waits_for_it_too(connect, data, proxy) -> None:
    client, run_id = connect(HOSTED), "run-left-unnamed"
    plan = client.plan(data, model="smollm2-135m")
    left_behind(client, plan, proxy, run_id)
    with pytest.raises(UnavailableError, match=f"{run_id}.*may still be on its way"):
        client.train(plan)
    assert creations(proxy) == 1


def test_a_launch_that_is_left_by_ctrl_c_is_unknown_at_once(connect, data, proxy, monkeypatch) -> None:
    client, run_id = connect(HOSTED), "run-left-by-hand"
    plan = client.plan(data, model="smollm2-135m")

    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ftclient.jobs.launch._create", press)
    with pytest.raises(KeyboardInterrupt):
        client.train(plan, run_id=run_id)
    assert client._journal.launch(run_id).state == "unknown"
    assert client.forget_launch(run_id) is None
    assert creations(proxy) == 0


def entry(created_at: float) -> Launch:
    return Launch(
        run_id=RUN,
        base_url="http://127.0.0.1:9/v1/",
        state="intended",
        job_id=None,
        fingerprint="f",
        body={},
        created_at=created_at,
        note=None,
    )


def test_who_sent_an_earlier_launch_of_a_run_id_neither_settles_nor_sends_the_later_one(tmp_path) -> None:
    """As a process that was asked for patience, and wakes up when its launch was given up and sent anew."""
    journal, first, second = Journal(tmp_path), entry(1_000.5), entry(2_000.25)
    assert journal.intend(first)
    assert journal.sends(first)
    journal.settle(RUN, "refused", begun_at=first.created_at)
    assert not journal.sends(first)
    assert journal.intend(second)
    journal.settle(RUN, "refused", begun_at=first.created_at)
    assert journal.launch(RUN).state == "intended"
    assert not journal.sends(first)
    assert journal.sends(second)
    journal.settle(RUN, "created", job_id="ftjob-1", begun_at=first.created_at)  # a job is never forgotten
    assert journal.launch(RUN).job_id == "ftjob-1"
    assert not journal.sends(second)


def test_a_launch_that_another_has_settled_is_not_sent_again(connect, data, proxy) -> None:
    """Its answer got lost, and it was given up before it could be sent again."""
    client, run_id = connect(), "run-settled"
    plan = client.plan(data, model="smollm2-135m")

    def choose(exchange: Exchange) -> Fault:
        if (exchange.method, exchange.path) == CREATE:
            return Fault(drop_before=True)
        if exchange.path.startswith(CREATE[1]):
            client._journal.settle(run_id, "refused")
        return NO_FAULT

    proxy.choose = choose
    with pytest.raises(UnavailableError, match="has been settled"):
        client.train(plan, run_id=run_id)
    assert creations(proxy) == 1
