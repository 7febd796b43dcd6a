"""A job is launched exactly once, whatever the line does to the request that may cost money."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ftclient import BackendError, Supervised, UnavailableError, hosts
from ftclient.jobs.launch import find
from ftclient.jobs.request import RUN_KEY, idempotency_key
from tests.faults.proxy import NO_FAULT, Exchange, Fault

CREATE = ("POST", "/v1/fine_tuning/jobs")
HOSTED = hosts.Host(name="other", title="the host")
"""A host that does not honour Idempotency-Key, as far as the client knows."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftclient.jobs.launch.LOOKS_S", (0.0, 0.05))


def on_create(*faults: Fault):
    """Return a chooser that hits the n-th creation of a job with the n-th fault, and nothing else."""
    left = list(faults)

    def choose(exchange: Exchange) -> Fault:
        return left.pop(0) if (exchange.method, exchange.path) == CREATE and left else NO_FAULT

    return choose


def creations(proxy) -> int:
    return sum((exchange.method, exchange.path) == CREATE for exchange, _ in proxy.seen)


def jobs_of(client, run_id: str) -> list[str]:
    return [job.id for job in client.openai.fine_tuning.jobs.list(metadata={RUN_KEY: run_id})]


def test_a_launch_is_in_the_journal_before_the_request_and_settled_after_it(connect, data, proxy) -> None:
    client = connect()
    states = []

    def choose(exchange: Exchange) -> Fault:
        if (exchange.method, exchange.path) == CREATE:
            states.append(client._journal.launch("run-journal").state)
        return NO_FAULT

    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = choose
    job = client.train(plan, run_id="run-journal")
    entry = client._journal.launch("run-journal")
    assert states == ["intended"]
    assert (entry.state, entry.job_id) == ("created", job.id)
    assert job.latest.metadata == {RUN_KEY: "run-journal"}


@pytest.mark.parametrize("host", [hosts.LOCAL, HOSTED])
def test_an_answer_that_is_lost_after_the_fact_finds_the_job_and_sends_nothing_again(
    connect, data, proxy, host
) -> None:
    client = connect(host)
    run_id = f"run-lost-{host.name}"
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(drop_after=True))
    job = client.train(plan, run_id=run_id)
    assert jobs_of(client, run_id) == [job.id]
    assert creations(proxy) == 1


NO_JOB = [b'{"object":"fine_tuning.job","id":"ftjob-', b"<html>", b"null", b'"page"', b"{}"]


@pytest.mark.parametrize("host", [hosts.LOCAL, HOSTED])
@pytest.mark.parametrize("body", NO_JOB)
def test_an_answer_that_is_no_job_finds_the_one_that_was_made(connect, data, proxy, host, body: bytes) -> None:
    client, run_id = connect(host), f"run-no-job-{host.name}-{body.hex()}"
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(edit=lambda _: body))
    job = client.train(plan, run_id=run_id)
    assert jobs_of(client, run_id) == [job.id]
    assert creations(proxy) == 1


@pytest.mark.parametrize("body", NO_JOB)
def test_an_official_client_that_is_strict_does_not_take_it_for_a_refusal(connect, data, proxy, body: bytes) -> None:
    client, run_id = connect(HOSTED), f"run-strict-{body.hex()}"
    plan = client.plan(data, model="smollm2-135m")
    client.openai._strict_response_validation = True
    proxy.choose = on_create(Fault(edit=lambda _: body))
    with pytest.raises(UnavailableError, match="may or may not exist"):  # strictly read, the list is none either
        client.train(plan, run_id=run_id)
    client.openai._strict_response_validation = False
    assert [client.train(plan, run_id=run_id).id] == jobs_of(client, run_id)
    assert creations(proxy) == 1


@pytest.mark.parametrize("body", [b"null", b'"page"', b"{}", b'{"data": ["a"]}', b'{"da'])
def test_a_list_that_is_none_finds_nothing_and_leaves_the_outcome_unknown(connect, data, proxy, body: bytes) -> None:
    """Even where the key is honoured: nothing is sent again on the word of a list that nobody could read."""
    client, run_id = connect(), f"run-page-{body.hex()}"
    plan = client.plan(data, model="smollm2-135m")

    def choose(exchange: Exchange) -> Fault:
        if not exchange.path.startswith(CREATE[1]):
            return NO_FAULT
        return Fault(drop_after=True) if exchange.method == "POST" else Fault(edit=lambda _: body)

    proxy.choose = choose
    with pytest.raises(UnavailableError, match="may or may not exist"):
        client.train(plan, run_id=run_id)
    assert creations(proxy) == 1
    assert client._journal.launch(run_id).state == "unknown"


MAYBE = (408, 409, 425, 500)
"""Statuses that do not say that nothing has been done."""


@pytest.mark.parametrize("status", MAYBE)
def test_a_status_that_is_no_refusal_finds_the_job_that_was_made_all_the_same(connect, data, proxy, status) -> None:
    client = connect(HOSTED)
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(status_after=status))
    job = client.train(plan, run_id=f"run-made-{status}")
    assert jobs_of(client, f"run-made-{status}") == [job.id]
    assert creations(proxy) == 1


@pytest.mark.parametrize("status", MAYBE)
def test_a_status_that_is_no_refusal_leaves_the_outcome_unknown(connect, data, proxy, status) -> None:
    client, run_id = connect(HOSTED), f"run-maybe-{status}"
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(status=status), Fault(status=status))
    for _ in range(2):
        with pytest.raises(UnavailableError, match="may or may not exist"):
            client.train(plan, run_id=run_id)
    assert client._journal.launch(run_id).state == "unknown"
    assert creations(proxy) == 1


def test_what_the_host_said_is_told_with_what_is_not_known(connect, data, proxy) -> None:
    client = connect(HOSTED)
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(status=409))
    with pytest.raises(UnavailableError, match=r"HTTP 409\): The proxy failed on purpose") as raised:
        client.train(plan, run_id="run-said")
    assert isinstance(raised.value.__cause__, UnavailableError)


def test_a_status_that_stays_is_not_asked_for_ever_where_the_key_is_honoured(connect, data, proxy) -> None:
    client = connect()
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(*[Fault(status=409)] * 20)
    with pytest.raises(UnavailableError, match="HTTP 409"):
        client.train(plan, run_id="run-stays")
    assert creations(proxy) == 4


def test_a_request_that_never_arrived_is_sent_again_where_the_key_is_honoured(connect, data, proxy) -> None:
    client = connect()
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(drop_before=True), Fault(status=503))
    job = client.train(plan, run_id="run-again")
    assert jobs_of(client, "run-again") == [job.id]
    assert creations(proxy) == 3


def test_elsewhere_it_stays_unknown_until_it_is_found(connect, data, proxy) -> None:
    client = connect(HOSTED)
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(drop_before=True))
    with pytest.raises(UnavailableError, match="may or may not exist"):
        client.train(plan, run_id="run-unknown")
    assert creations(proxy) == 1
    assert [each.run_id for each in client.find_lost()] == ["run-unknown"]
    with pytest.raises(UnavailableError, match="run-unknown"):
        client.train(plan, run_id="run-unknown")
    assert creations(proxy) == 1


def test_an_unknown_launch_can_be_given_up_and_is_then_sent_again(connect, data, proxy) -> None:
    client = connect(HOSTED)
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(drop_before=True))
    with pytest.raises(UnavailableError) as raised:
        client.train(plan, run_id="run-given-up")
    assert f"{command_at(client)} jobs --forget=run-given-up`" in str(raised.value)
    assert client.forget_launch("run-given-up") is None
    job = client.train(plan, run_id="run-given-up")
    assert jobs_of(client, "run-given-up") == [job.id]
    with pytest.raises(ValueError, match="no launch 'run-given-up' is unknown"):
        client.forget_launch("run-given-up")


def command_at(client) -> str:
    """How the command line reaches the same backend and the same journal."""
    return f"`ftclient --backend {client.openai.base_url} --home {client.home}"


def test_giving_up_looks_once_more_and_keeps_a_job_that_is_there(connect, data, proxy) -> None:
    client = connect(HOSTED)
    plan = client.plan(data, model="smollm2-135m")

    def choose(exchange: Exchange) -> Fault:
        if exchange.path.startswith(CREATE[1]):
            return Fault(drop_after=True) if exchange.method == "POST" else Fault(status=404)
        return NO_FAULT

    proxy.choose = choose
    with pytest.raises(UnavailableError):
        client.train(plan, run_id="run-kept")
    proxy.choose = lambda _: NO_FAULT
    assert [client.forget_launch("run-kept").id] == jobs_of(client, "run-kept")


def test_a_job_that_turns_up_late_is_adopted(connect, data, proxy) -> None:
    """The list is read before the job is in it, as at hosts whose lists lag behind."""
    client = connect(HOSTED)
    plan = client.plan(data, model="smollm2-135m")

    def choose(exchange: Exchange) -> Fault:
        if exchange.path.startswith(CREATE[1]):
            return Fault(drop_after=True) if exchange.method == "POST" else Fault(status=404)
        return NO_FAULT

    proxy.choose = choose
    with pytest.raises(UnavailableError):
        client.train(plan, run_id="run-late")
    proxy.choose = lambda _: NO_FAULT
    assert client.find_lost() == []
    entry = client._journal.launch("run-late")
    assert (entry.state, jobs_of(client, "run-late")) == ("created", [entry.job_id])
    assert client.train(plan, run_id="run-late").id == entry.job_id


def test_a_refusal_is_told_and_the_run_id_can_be_used_again(connect, data, proxy) -> None:
    client = connect()
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(status=400))
    with pytest.raises(BackendError):
        client.train(plan, run_id="run-refused")
    assert client._journal.launch("run-refused").state == "refused"
    job = client.train(plan, run_id="run-refused")
    assert jobs_of(client, "run-refused") == [job.id]


def test_too_many_requests_are_waited_out_without_a_second_job(connect, data, proxy, monkeypatch) -> None:
    monkeypatch.setattr("ftclient.jobs.launch.time.sleep", lambda _: None)
    client = connect(HOSTED)
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(status=429), Fault(status=429))
    job = client.train(plan, run_id="run-429")
    assert jobs_of(client, "run-429") == [job.id]


def test_the_same_run_id_returns_the_same_job_and_never_another_one(connect, data) -> None:
    client = connect()
    plan = client.plan(data, model="smollm2-135m")
    first, again = client.train(plan, run_id="run-nightly"), client.train(plan, run_id="run-nightly")
    assert first.id == again.id
    other = client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=1))
    with pytest.raises(ValueError, match="used for another job"):
        client.train(other, run_id="run-nightly")


@pytest.mark.parametrize("run_id", ["実験-1", "café", " padded ", "k" * 300, "実" * 512])
def test_a_run_id_in_any_words_names_one_job(connect, data, proxy, run_id: str) -> None:
    client = connect()
    plan = client.plan(data, model="smollm2-135m")
    proxy.choose = on_create(Fault(drop_after=True), Fault(drop_before=True))
    job = client.train(plan, run_id=run_id)
    assert job.refresh().metadata[RUN_KEY] == run_id
    assert client.train(plan, run_id=run_id).id == job.id
    assert jobs_of(client, run_id) == [job.id]


def test_run_ids_in_other_words_have_keys_of_their_own_that_fit_a_header() -> None:
    odd = ["実験-1", "実験-2", "café", " padded", "padded ", "k" * 300]
    keys = {idempotency_key(run_id) for run_id in odd}
    assert len(keys) == len(odd)
    assert all(key.isascii() and key == key.strip() and len(key) <= 255 for key in keys)
    assert idempotency_key("run-plain 1") == "run-plain 1"


@pytest.mark.parametrize("run_id", ["a\nb", "tab\there", "x" * 513, "\ud800", "", "  "])
def test_a_run_id_that_no_host_would_take_is_refused_before_anything_is_written(connect, data, run_id: str) -> None:
    client = connect()
    with pytest.raises(ValueError, match="printable characters, 512 at most"):
        client.train(client.plan(data, model="smollm2-135m"), run_id=run_id)
    assert client._journal.launches(str(client.openai.base_url)) == []


def test_two_that_launch_under_one_run_id_at_once_start_one_job(connect, data, proxy) -> None:
    """The host does not know the key: only the journal keeps the second from sending."""
    from concurrent.futures import ThreadPoolExecutor

    client = connect(HOSTED)
    plan = client.plan(data, model="smollm2-135m")
    client.upload(data)

    def start(_: int) -> str | None:
        try:
            return client.train(plan, run_id="run-race").id
        except UnavailableError:  # it looked before the other's job was there
            return None

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(start, range(4))) - {None}
    assert creations(proxy) == 1
    assert list(found) == jobs_of(client, "run-race")


def test_a_process_killed_between_request_and_answer_leaves_one_job_that_its_successor_finds(
    connect, data, proxy, tmp_path
) -> None:
    data.write(tmp_path / "data.jsonl")
    script = (
        "import os, signal, sys\n"
        "from ftclient import Client, Dataset\n"
        "client = Client.at(sys.argv[1], home=sys.argv[2])\n"
        "plan = client.plan(Dataset.read(sys.argv[3]), model='smollm2-135m')\n"
        "create = client.openai.with_options(max_retries=0).fine_tuning.jobs.__class__.create\n"
        "def create_and_die(self, **body):\n"
        "    create(self, **body)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "client.openai.fine_tuning.jobs.__class__.create = create_and_die\n"
        "client.train(plan, run_id='run-killed')\n"
    )
    command = [sys.executable, "-c", script, proxy.url, str(tmp_path / "home"), str(tmp_path / "data.jsonl")]
    assert subprocess.run(command, check=False).returncode == -9
    client = connect()
    assert client._journal.launch("run-killed").state == "intended"
    job = client.train(client.plan(data, model="smollm2-135m"), run_id="run-killed")
    assert jobs_of(client, "run-killed") == [job.id]
    assert creations(proxy) == 1


def test_a_list_that_ignores_the_filter_yields_no_stranger(connect, data) -> None:
    client = connect()
    client.train(client.plan(data, model="smollm2-135m"), run_id="run-stranger")
    assert find(client.openai, client.host, "run-nobody") is None


def test_the_plan_is_kept_with_the_launch(connect, data) -> None:
    import json
    import sqlite3

    client = connect()
    plan = client.plan(data, model="smollm2-135m")
    client.train(plan, run_id="run-plan")
    with sqlite3.connect(client.home / "client.db") as db:
        (kept,) = db.execute("SELECT plan FROM launches WHERE run_id = 'run-plan'").fetchone()
    db.close()
    assert json.loads(kept) == plan.to_json()
