"""Following many jobs over a line with faults, by followers that are started again and again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openai import OpenAI

from ftclient import Client, LocalOptions, Simulate, Supervised, hosts
from ftclient.jobs.follow import ENDED
from tests.faults.launching import MODEL, examples
from tests.faults.proxy import FaultProxy, random_faults


def follow_under_faults(
    server: str, home: Path, *, n_jobs: int, seed: int, rate: float
) -> list[tuple[list[str], list[str]]]:
    """Start `n_jobs` jobs, follow all of them at once, and return for each what was told and what the server has."""
    local = LocalOptions(simulate=Simulate(speed="timed", seconds_per_step=0.01))
    with Client.at(server, host=hosts.LOCAL, home=home) as calm:
        plan = calm.plan(examples(), model=MODEL, method=Supervised(n_epochs=3, batch_size=1), local=local)
        ids = [calm.train(plan).id for _ in range(n_jobs)]
        with FaultProxy(server, choose=random_faults(seed, rate=rate)) as proxy, ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda job_id: _follow(proxy.url, home, job_id, seed), ids))
        return [(mine, listed(calm.openai, job_id)) for mine, job_id in zip(told, ids, strict=True)]


def listed(openai: OpenAI, job_id: str) -> list[str]:
    """Return ids of all events, by the official client's own pagination, oldest first."""
    return [event.id for event in openai.fine_tuning.jobs.list_events(job_id, limit=100)][::-1]


def _follow(url: str, home: Path, job_id: str, seed: int) -> list[str]:
    """Follow a job with one client after the other; each knows only the last event that the one before has told."""
    dice, told = random.Random(f"{seed}/{job_id}"), list[str]()
    while True:
        with Client.at(url, host=hosts.LOCAL, home=home) as client:
            client.openai.max_retries = 0  # its own tries would hide the faults
            job, looks = client._job(job_id), dice.randrange(1, 12)
            for number, poll in enumerate(job.polls(after=told[-1] if told else None, sleep=lambda _: None)):
                told += [event.id for event in poll.events]
                if poll.job and poll.job.status in ENDED:
                    return told
                if number >= looks:
                    break


def differing(found: Sequence[tuple[list[str], list[str]]]) -> int:
    """Return of how many jobs something else was told than the server has."""
    return sum(mine != theirs for mine, theirs in found)
