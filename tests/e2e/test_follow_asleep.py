"""A follower outlives sleep: the process is really stopped, the job goes on, and the line is cut meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ftclient import Client, LocalOptions, Simulate, Supervised, hosts
from tests.e2e.serving import simulated_server
from tests.faults.following import listed
from tests.faults.launching import MODEL, examples
from tests.faults.proxy import Fault, FaultProxy

FOLLOW = """
import sys
from ftclient import Client, hosts
from ftclient.jobs import follow
url, home, job_id, give_up_s, asleep_s = sys.argv[1:]
follow.GIVE_UP_S, follow.ASLEEP_S = float(give_up_s), float(asleep_s)
with Client.at(url, host=hosts.LOCAL, home=home) as client:
    client.openai.max_retries = 0
    for poll in client._job(job_id).polls():
        print(*[event.id for event in poll.events], "silent" if poll.trouble else "", flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Client]:
    """A client that is connected to a server without faults."""
    with simulated_server(tmp_path / "server") as url, Client.at(url, host=hosts.LOCAL, home=tmp_path / "h") as client:
        yield client


def start(client: Client) -> str:
    """Start a job of two seconds."""
    local = LocalOptions(simulate=Simulate(speed="timed", seconds_per_step=0.05))
    plan = client.plan(examples(), model=MODEL, method=Supervised(n_epochs=3, batch_size=1), local=local)
    return client.train(plan).id


@contextmanager
def following(proxy: FaultProxy, home: Path, job_id: str, *, give_up_s: float) -> Iterator[subprocess.Popen[str]]:
    """Follow a job in a process of its own, which prints ids of events, and `silent` where there was no answer."""
    command = [sys.executable, "-c", FOLLOW, proxy.url, str(home), job_id, str(give_up_s), "0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_it_falls_asleep_over_a_request_and_the_line_is_cut(server: Client, tmp_path: Path) -> None:
    """The job ends without it; when it wakes, every event is told once and in order."""
    upstream, job_id = str(server.openai.base_url).removesuffix("/v1/"), start(server)
    with ExitStack() as evening:
        line = evening.enter_context(FaultProxy(upstream))
        with following(line, tmp_path, job_id, give_up_s=900) as process:
            told = process.stdout.readline() + process.stdout.readline()
            line.choose = lambda _: Fault(delay_s=60)
            time.sleep(0.5)
            process.send_signal(signal.SIGSTOP)
            evening.close()
            for _ in server.job(job_id).polls():
                pass
            with FaultProxy(upstream, port=line.port):
                process.send_signal(signal.SIGCONT)
                rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert [word for word in (told + rest).split() if word != "silent"] == listed(server.openai, job_id)


def test_time_asleep_is_not_silence_of_the_host(server: Client, tmp_path: Path) -> None:
    """It has just lost the host when it falls asleep, and on waking the network needs a moment."""
    upstream, job_id = str(server.openai.base_url).removesuffix("/v1/"), start(server)
    with ExitStack() as evening:
        line = evening.enter_context(FaultProxy(upstream))
        with following(line, tmp_path, job_id, give_up_s=2) as process:
            told = [process.stdout.readline()]
            evening.close()
            while "silent" not in told[-1]:
                told.append(process.stdout.readline())
            process.send_signal(signal.SIGSTOP)
            time.sleep(3)
            process.send_signal(signal.SIGCONT)
            told.append(process.stdout.readline())
            assert "silent" in told[-1]
            with FaultProxy(upstream, port=line.port):
                rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert [word for word in "".join([*told, rest]).split() if word != "silent"] == listed(server.openai, job_id)
