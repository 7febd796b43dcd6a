"""Launches by a process that is killed again and again, over a line with faults; then the count.

Run as a program it is that process: it launches every run id of a file that is not launched yet, and exits 0 when
each has an outcome.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from openai import _base_client

from ftclient import BackendError, Client, Dataset, JobNotFoundError, UnavailableError, hosts
from ftclient.jobs import journal, launch
from ftclient.jobs.request import RUN_KEY
from tests.faults.proxy import NO_FAULT, FaultProxy, random_faults

HOSTED = hosts.Host(name="other", title="the host")
HOSTS = {"local": hosts.LOCAL, "other": HOSTED}
KILL_AFTER_S = (0.2, 3.0)
MODEL = "smollm2-135m"


def examples(n: int = 12) -> Dataset:
    """Examples without errors."""
    return Dataset(
        {
            "messages": [
                {"role": "user", "content": f"What is {i} plus 1?"},
                {"role": "assistant", "content": str(i + 1)},
            ]
        }
        for i in range(n)
    )


def work(url: str, home: str, data: str, host: str, runs: str) -> None:
    """Launch every run id of the file `runs`."""
    launch.LOOKS_S = (0.0, 0.05, 0.2)
    journal.UNDER_WAY_S = 0.0  # nobody else launches: what is without an outcome here was sent by one that is dead
    _base_client.INITIAL_RETRY_DELAY = _base_client.MAX_RETRY_DELAY = 0.02
    client = Client.at(url, api_key="sk-test", host=HOSTS[host], home=home)
    dataset, plan = Dataset.read(data), None
    print("ready", flush=True)
    for run_id in Path(runs).read_text(encoding="utf-8").split():
        entry = client._journal.launch(run_id)
        if entry and entry.state in {"created"} | ({"unknown"} if host == "other" else set()):
            continue
        for _ in range(20):
            try:
                plan = plan or client.plan(dataset, model=MODEL)
                client.train(plan, run_id=run_id)
                break
            except UnavailableError as error:
                if "may or may not exist" in str(error) and host != "local":
                    break  # it stands as unknown
            except (BackendError, JobNotFoundError):
                continue
    client.close()


@dataclass(frozen=True, kw_only=True)
class Count:
    """What there is in the end."""

    n_launches: int
    n_kills: int
    n_requests: int
    n_faults: int
    jobs_of: Counter[str]
    """Jobs at the server by run id."""
    unknown: set[str]
    known: dict[str, str]
    """Job id by run id, as the journal has it."""
    job_ids: set[str]


def launch_under_faults(
    server: str, folder: Path, *, host: str, n: int, seed: int, rate: float, strip: frozenset[str] = frozenset()
) -> Count:
    """Launch `n` jobs by processes that are killed at random moments, and count what has come of it."""
    folder.mkdir(parents=True, exist_ok=True)
    data, runs = folder / "data.jsonl", folder / "runs.txt"
    examples().write(data)
    names = [f"{folder.name}-{i:04d}" for i in range(n)]
    runs.write_text("\n".join(names), encoding="utf-8")
    dice, n_kills = random.Random(seed), 0
    with FaultProxy(server, choose=random_faults(seed, rate=rate, strip_headers=strip)) as proxy:
        command = [sys.executable, "-m", __spec__.name, proxy.url, str(folder / "home"), str(data), host, str(runs)]
        while True:
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
            with worker, worker.stdout:
                worker.stdout.readline()
                try:
                    worker.wait(timeout=dice.uniform(*KILL_AFTER_S))
                    assert worker.returncode == 0
                    break
                except subprocess.TimeoutExpired:
                    os.kill(worker.pid, signal.SIGKILL)
                    n_kills += 1
        time.sleep(0.5)  # what the last one killed had on its way
        n_faults = sum(replace(fault, strip_headers=frozenset()) != NO_FAULT for _, fault in proxy.seen)
        proxy.choose = lambda _: NO_FAULT
        return _count(proxy, folder, host=host, names=names, n_kills=n_kills, n_faults=n_faults)


def _count(proxy: FaultProxy, folder: Path, *, host: str, names: list[str], n_kills: int, n_faults: int) -> Count:
    with Client.at(proxy.url, api_key="sk-test", host=HOSTS[host], home=folder / "home") as client:
        unknown = {each.run_id for each in client.find_lost()}
        jobs = [
            job for job in client.openai.fine_tuning.jobs.list(limit=100) if (job.metadata or {}).get(RUN_KEY) in names
        ]
        entries = [entry for entry in client._journal.launches(str(client.openai.base_url)) if entry.run_id in names]
    return Count(
        n_launches=len(names),
        n_kills=n_kills,
        n_requests=len(proxy.seen),
        n_faults=n_faults,
        jobs_of=Counter(job.metadata[RUN_KEY] for job in jobs),
        unknown=unknown,
        known={entry.run_id: entry.job_id for entry in entries if entry.state == "created"},
        job_ids={job.id for job in jobs},
    )


if __name__ == "__main__":
    work(*sys.argv[1:])
