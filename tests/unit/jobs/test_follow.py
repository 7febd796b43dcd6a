"""A follower has every event once and in order, whatever the line does."""

from __future__ import annotations

import io
import itertools
import json
import random
import threading
import time

import pytest
from rich.console import Console

from ftclient import JobFailedError, JobNotFoundError, LocalOptions, Simulate, Supervised, UnavailableError
from ftclient.view.watch import watch
from tests.faults.proxy import NO_FAULT, Exchange, Fault, random_faults


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask as fast as the server answers."""
    monkeypatch.setattr("ftclient.jobs.follow.Pace.after", lambda _self, *, news: 0.01 if news else 0.02)


def start(client, data, *, epochs: int = 3, **simulate):
    local = LocalOptions(simulate=Simulate(**simulate)) if simulate else None
    plan = client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=epochs, batch_size=1), local=local)
    return client.train(plan)


def listed(client, job_id: str) -> list[str]:
    """Return what the server has, by the official client's own pagination, oldest first."""
    return [event.id for event in client.openai.fine_tuning.jobs.list_events(job_id, limit=100)][::-1]


def test_events_come_oldest_first_and_each_once(connect, data) -> None:
    client = connect()
    job = start(client, data, speed="timed", seconds_per_step=0.01)
    events = list(job.events(follow_on=True))
    assert [event.id for event in events] == listed(client, job.id)
    assert events[0].message == f"Created fine-tuning job: {job.id}"
    assert events[-1].message == "The job has successfully completed"
    steps = [event.data["step"] for event in events if event.type == "metrics"]
    assert steps == list(range(1, 37))


def test_more_events_than_a_page_are_all_read(connect, data) -> None:
    client = connect()
    job = start(client, data, epochs=9)
    job.wait()
    events = list(job.events())
    assert len(events) > 100
    assert [event.id for event in events] == listed(client, job.id)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_line_loses_and_doubles_nothing(connect, data, proxy, seed) -> None:
    client = connect()
    job = start(client, data, speed="timed", seconds_per_step=0.02)
    proxy.choose = random_faults(seed, rate=0.3)
    events = [event.id for event in job.events(follow_on=True)]
    proxy.choose = lambda _: NO_FAULT
    assert events == listed(client, job.id)


def test_pages_that_arrive_turned_around_are_read_in_order(connect, data, proxy) -> None:
    client = connect()
    job = start(client, data, speed="timed", seconds_per_step=0.01)
    dice = random.Random(5)

    def choose(exchange) -> Fault:
        return Fault(reverse_page=dice.random() < 0.5) if "/events" in exchange.path else NO_FAULT

    proxy.choose = choose
    events = [event.id for event in job.events(follow_on=True)]
    assert events == [event.id for event in job.events()]
    proxy.choose = lambda _: NO_FAULT
    assert events == listed(client, job.id)


def test_events_that_the_host_files_late_are_told_late_and_once(connect, data, proxy) -> None:
    """The list lacks its second event until the job has ended; then it stands behind a hundred known ones."""
    client = connect()
    job = start(client, data, epochs=10, speed="timed", seconds_per_step=0.005)
    has_ended = threading.Event()

    def hide(body: bytes) -> bytes:
        page = json.loads(body)
        kept = [each for each in page["data"] if "Validating" not in each["message"]]
        return json.dumps({**page, "data": kept}).encode()

    def look(body: bytes) -> bytes:
        if json.loads(body)["status"] == "succeeded":
            has_ended.set()
        return body

    def choose(exchange: Exchange) -> Fault:
        if "/events" not in exchange.path:
            return Fault(edit=look)
        return NO_FAULT if has_ended.is_set() else Fault(edit=hide)

    proxy.choose = choose
    told = []
    for poll in job.polls():
        told += [event.message for event in poll.events]
    assert sum("Validating" in text for text in told) == 1
    assert sorted(told) == sorted(event.message for event in job.events())


def test_a_process_goes_on_after_the_last_event_that_its_predecessor_saw(connect, data) -> None:
    client = connect()
    job = start(client, data)
    job.wait()
    everything = [event.id for event in job.events()]
    assert [event.id for event in job.events(after=everything[7])] == everything[8:]
    assert [event.id for event in job.events(follow_on=True, after=everything[-1])] == []


def test_a_host_that_asks_for_patience_gets_it(connect, data, proxy) -> None:
    client = connect()
    job = start(client, data)
    job.wait()
    busy = [Fault(status=429, retry_after_s=7)] * 3
    client.openai.max_retries = 0
    proxy.choose = lambda _: busy.pop() if busy else NO_FAULT
    pauses: list[float] = []
    polls = list(job.polls(sleep=pauses.append))
    assert pauses == [7, 7, 7]
    assert [poll.job is None for poll in polls] == [True, True, True, False]
    assert "limiting requests" in polls[0].trouble


@pytest.mark.parametrize("status", [408, 409, 425])
def test_a_status_that_passes_is_waited_out(connect, data, proxy, status: int) -> None:
    client = connect()
    job = start(client, data)
    job.wait()
    client.openai.max_retries = 0
    bad = [Fault(status=status)] * 4
    proxy.choose = lambda _: bad.pop() if bad else NO_FAULT
    polls = list(job.polls(sleep=lambda _: None))
    assert [poll.job is None for poll in polls] == [True] * 4 + [False]


@pytest.mark.parametrize("place", ["", "/events"])
@pytest.mark.parametrize(
    "body",
    [b"<html>Sign in to the network</html>", b'"Sign in"', b'{"id": "ftjo', b"", b"null", b"[]", b'{"a": 1}', b"\xff"],
)
def test_an_answer_that_is_no_answer_is_waited_out(connect, data, proxy, place: str, body: bytes) -> None:
    """As a captive portal, a proxy's login page or a line that breaks off give it, with status 200."""
    client = connect()
    job = start(client, data)
    job.wait()
    bad = [Fault(edit=lambda _: body)] * 2
    path = f"/v1/fine_tuning/jobs/{job.id}{place}"
    proxy.choose = lambda exchange: bad.pop() if bad and exchange.path.split("?")[0] == path else NO_FAULT
    polls = list(job.polls(sleep=lambda _: None))
    assert [poll.job is None for poll in polls] == [True, True, False]
    assert "the local backend sent" in polls[0].trouble.lower()
    assert [event.id for poll in polls for event in poll.events] == listed(client, job.id)


@pytest.mark.parametrize("body", [b"null", b'"Sign in"', b'{"data": "none"}', b'{"data": ["a"]}', b"{}"])
def test_an_answer_that_is_no_answer_is_told_as_one(connect, data, proxy, body: bytes) -> None:
    client = connect()
    job = start(client, data)
    proxy.choose = lambda _: Fault(edit=lambda _: body)
    for ask in (job.refresh, lambda: list(job.events()), lambda: client.job(job.id), client.jobs):
        with pytest.raises(UnavailableError, match="sent"):
            ask()


def test_a_connection_that_died_without_a_word_is_given_up_and_the_job_looked_at_again(
    connect, data, proxy, monkeypatch
) -> None:
    monkeypatch.setattr("ftclient.jobs.follow.LOOK_S", 0.3)
    client = connect()
    job = start(client, data)
    job.wait()
    client.openai.max_retries = 0
    dead = [Fault(delay_s=30)]
    proxy.choose = lambda _: dead.pop() if dead else NO_FAULT
    polls = list(job.polls())
    assert "cannot be reached" in polls[0].trouble
    assert [event.id for poll in polls for event in poll.events] == listed(client, job.id)


def test_a_host_that_stays_silent_is_given_up_in_the_end(connect, data, proxy, monkeypatch) -> None:
    monkeypatch.setattr("ftclient.jobs.follow.GIVE_UP_S", 0.2)
    client = connect()
    job = start(client, data)
    client.openai.max_retries = 0
    proxy.choose = lambda _: Fault(status=503)
    polls, seen = job.polls(), []
    with pytest.raises(UnavailableError):
        seen.extend(polls)
    assert len(seen) > 1


def test_a_clock_that_is_set_changes_nothing(connect, data, monkeypatch) -> None:
    """The wall clock jumps by a day at each glance, forward and back."""
    true_time, jumps = time.time, itertools.cycle([0, 86_400, -86_400])
    monkeypatch.setattr("time.time", lambda: true_time() + next(jumps))
    client = connect()
    job = start(client, data, speed="timed", seconds_per_step=0.01)
    heard = []
    job.wait(timeout_s=60, on_event=lambda event: heard.append(event.id))
    assert heard == listed(client, job.id)
    assert watch(job, console=Console(file=io.StringIO(), width=80)).status == "succeeded"


def test_whoever_waits_can_hear_each_event(connect, data) -> None:
    job = start(connect(), data)
    heard = []
    job.wait(timeout_s=60, on_event=lambda event: heard.append(event.id))
    assert heard == [event.id for event in job.events()]


def test_waiting_returns_the_model_with_metrics_and_checkpoints(connect, data) -> None:
    job = start(connect(), data)
    result = job.wait(timeout_s=60)
    assert result.model.startswith("ft:smollm2-135m:personal:")
    assert [row.step for row in result.metrics] == list(range(1, 37))
    assert result.metrics[-1].train_loss < result.metrics[0].train_loss
    assert [each.step_number for each in result.checkpoints] == [12, 24, 36]
    assert result.checkpoints[-1].fine_tuned_model_checkpoint == result.model
    assert result.trained_tokens > 0


def test_a_failed_job_raises_the_hosts_own_words(connect, data) -> None:
    job = start(connect(), data, speed="immediate", fail_at_step=3, fail_code="out_of_memory")
    with pytest.raises(JobFailedError) as raised:
        job.wait(timeout_s=60)
    assert raised.value.code == "out_of_memory"
    assert job.id in str(raised.value)


def in_other_words(body: bytes) -> bytes:
    """Call the ends of jobs as some hosts do."""
    return body.replace(b'"status":"succeeded"', b'"status":"completed"').replace(
        b'"status":"failed"', b'"status":"error"'
    )


def test_hosts_with_other_words_for_the_end_are_understood(connect, data, proxy) -> None:
    client = connect()
    proxy.choose = lambda _: Fault(edit=in_other_words)
    result = start(client, data).wait(timeout_s=60)
    assert (result.job.status, result.model) == ("completed", result.job.fine_tuned_model)
    console = Console(file=io.StringIO(), width=80)
    assert watch(client.job(result.job_id), console=console).status == "completed"
    assert f"chat {result.model}" in console.file.getvalue()
    failing = start(client, data, speed="immediate", fail_at_step=3, fail_code="out_of_memory")
    with pytest.raises(JobFailedError, match="failed on purpose") as raised:
        failing.wait(timeout_s=60)
    assert raised.value.code == "out_of_memory"


def test_a_cancelled_job_is_no_result(connect, data) -> None:
    job = start(connect(), data, speed="timed", seconds_per_step=0.3)
    job.cancel()
    with pytest.raises(JobFailedError, match="is cancelled"):
        job.wait(timeout_s=60)


def test_a_paused_job_ends_the_wait_and_goes_on_when_resumed(connect, data) -> None:
    job = start(connect(), data, speed="timed", seconds_per_step=0.15)
    for poll in job.polls():
        if poll.job and poll.job.status == "running":
            break
    job.pause()
    with pytest.raises(JobFailedError, match="ftclient resume"):
        job.wait(timeout_s=60)
    job.resume()
    result = job.wait(timeout_s=60)
    assert [row.step for row in result.metrics] == list(range(1, 37))


def test_waiting_can_be_given_up_and_the_job_goes_on(connect, data) -> None:
    job = start(connect(), data, speed="timed", seconds_per_step=0.3)
    with pytest.raises(TimeoutError, match="it goes on"):
        job.wait(timeout_s=0.2)
    assert job.status in ("validating_files", "queued", "running")
    job.cancel()


def test_an_unknown_job_is_a_lookup_error_with_the_way_to_find_others(connect) -> None:
    with pytest.raises(JobNotFoundError, match="ftclient jobs") as raised:
        connect().job("ftjob-nonesuch")
    assert isinstance(raised.value, LookupError)


@pytest.mark.parametrize("status", [403, 404])
def test_a_job_whose_result_file_is_gone_has_the_metrics_of_its_events(connect, data, proxy, status: int) -> None:
    client = connect()
    job = start(client, data)
    whole = job.wait()
    proxy.choose = lambda exchange: Fault(status=status) if exchange.path.startswith("/v1/files/") else NO_FAULT
    result = job.wait()
    assert result.model == whole.model
    assert [row.step for row in result.metrics] == [row.step for row in whole.metrics]
    assert result.metrics[-1].train_loss == pytest.approx(whole.metrics[-1].train_loss, abs=0.01)


def test_a_result_file_that_is_only_out_of_reach_is_not_done_without(connect, data, proxy) -> None:
    client = connect()
    job = start(client, data)
    job.wait()
    client.openai.max_retries = 0
    proxy.choose = lambda exchange: Fault(status=503) if exchange.path.startswith("/v1/files/") else NO_FAULT
    with pytest.raises(UnavailableError):
        job.metrics()


def late(event_id: str, *, stale: list[bool]):
    """Return a chooser that keeps one event out of lists as long as `stale` has something in it."""

    def without(body: bytes) -> bytes:
        page = json.loads(body)
        return json.dumps({**page, "data": [each for each in page["data"] if each["id"] != event_id]}).encode()

    def choose(exchange: Exchange) -> Fault:
        return Fault(edit=without) if stale and "/events" in exchange.path else NO_FAULT

    return choose


def test_an_event_that_is_filed_late_over_a_restart_is_told_to_who_gives_all_that_is_known(
    connect, data, proxy
) -> None:
    client = connect()
    job = start(client, data)
    job.wait()
    everything = listed(client, job.id)
    stale = [True]
    proxy.choose = late(everything[-3], stale=stale)
    known = [event.id for event in job.events()]
    assert everything[-3] not in known
    stale.clear()
    for follow_on in (False, True):
        fresh = [event.id for event in job.events(follow_on=follow_on, after=set(known))]
        assert fresh == [everything[-3]]
