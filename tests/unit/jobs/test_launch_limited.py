"""A launch that a host refuses for a while, as it limits requests: there is no job, and nobody takes it for one."""

from __future__ import annotations

import time

import pytest

from ftclient import Client
from tests.faults.proxy import Fault
from tests.unit.jobs.test_launch import HOSTED, creations, jobs_of, on_create

LIMITED = Fault(status=429, retry_after_s=30)


class Pausing:
    """Stands in for the pause of a launch, and does something else meanwhile, once."""

    def __init__(self, meanwhile) -> None:
        self.meanwhile, self.sleep = [meanwhile], time.sleep

    def __call__(self, seconds: float) -> None:
        if seconds == LIMITED.retry_after_s and self.meanwhile:
            self.meanwhile.pop()()
        elif seconds != LIMITED.retry_after_s:
            self.sleep(seconds)


@pytest.fixture
def pausing(monkeypatch: pytest.MonkeyPatch):
    def install(meanwhile) -> Pausing:
        pause = Pausing(meanwhile)
        monkeypatch.setattr("ftclient.jobs.launch.time.sleep", pause)
        monkeypatch.setattr("ftclient.jobs.launch.LOOKS_S", (0.0,))
        return pause

    return install


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def plan_of(client: Client, data, suffix: str):
    """Return a plan that no other test has."""
    return client.plan(data, model="smollm2-135m", suffix=suffix)


@pytest.mark.parametrize("names", [("run-left-1", "run-left-1"), (None, None), ("run-left-2", "run-left-3")])
def test_who_leaves_during_the_pause_can_launch_the_job_at_once(connect, data, proxy, pausing, names) -> None:
    client, (first, second) = connect(HOSTED), names
    plan = plan_of(client, data, f"limited-{first}")
    proxy.choose = on_create(LIMITED)
    pausing(press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        client.train(plan, run_id=first)
    (entry,) = client._journal.launches(str(client.openai.base_url))
    assert entry.state == "refused"
    assert client.find_lost() == []
    job = client.train(plan, run_id=second)
    assert jobs_of(client, second or entry.run_id) == [job.id]
    assert creations(proxy) == 2


def test_the_pause_is_told_in_seconds(connect, data, proxy, pausing) -> None:
    client, said = connect(HOSTED), list[str]()
    plan = plan_of(client, data, "limited-told")
    proxy.choose = on_create(LIMITED)
    pause = pausing(lambda: None)
    client.train(plan, tell=said.append)
    assert pause.meanwhile == []
    (text,) = said
    assert "the host is limiting requests" in text
    assert "30 s" in text


@pytest.mark.parametrize("run_id", ["run-limited-twice", None])
def test_the_same_command_in_another_terminal_meanwhile_starts_the_one_job_of_both(
    connect, data, proxy, pausing, monkeypatch, run_id
) -> None:
    client, other, found = connect(HOSTED), connect(HOSTED), list[str]()
    plan = plan_of(client, data, f"limited-twice-{run_id}")

    def launch_elsewhere() -> None:
        monkeypatch.setattr("ftclient.jobs.launch._OURS", set())  # as another process has it
        found.append(other.train(plan, run_id=run_id).id)

    proxy.choose = on_create(LIMITED)
    pausing(launch_elsewhere)
    job = client.train(plan, run_id=run_id)
    assert found == [job.id]
    assert creations(proxy) == 2
    (entry,) = client._journal.launches(str(client.openai.base_url))
    assert jobs_of(client, entry.run_id) == [job.id]


def test_who_wakes_while_another_has_sent_it_sends_nothing(connect, data, proxy, pausing, monkeypatch) -> None:
    """The other has no answer yet, and the job is found by its run id."""
    client, other, run_id = connect(HOSTED), connect(HOSTED), "run-limited-and-lost"
    plan = plan_of(client, data, "limited-lost")

    def launch_elsewhere() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("ftclient.jobs.launch.find", lambda *_: None)
            patch.setattr(other._journal, "settle", lambda *_, **__: None)
            with pytest.raises(Exception, match="may or may not exist"):
                other.train(plan, run_id=run_id)

    proxy.choose = on_create(LIMITED, Fault(drop_after=True))
    pausing(launch_elsewhere)
    job = client.train(plan, run_id=run_id)
    assert jobs_of(client, run_id) == [job.id]
    assert creations(proxy) == 2


def test_another_thread_that_trains_the_same_meanwhile_has_a_job_of_its_own(connect, data, proxy, pausing) -> None:
    client, found = connect(HOSTED), list[str]()
    plan = plan_of(client, data, "limited-threads")
    proxy.choose = on_create(LIMITED)
    pausing(lambda: found.append(client.train(plan).id))
    job = client.train(plan)
    assert found != [job.id]
    assert creations(proxy) == 3
