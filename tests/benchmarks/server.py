"""How long the calls of a local backend take."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from local_backend import in_process
from local_backend.settings import Settings
from tests.benchmarks.runner import Options, Result

N_CALLS = 1_000


def run(options: Options) -> Iterator[Result]:
    """Time calls on a home with a hundred ended jobs, the client's own work included."""
    n_calls = max(50, int(N_CALLS * options.scale))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), cache=Path(folder), engine="simulated", runner="thread")
        with in_process.client(settings) as client:
            job_id = fill(client)
            retrieve = median_ms(lambda: client.fine_tuning.jobs.retrieve(job_id), n_calls)
            yield Result(name="jobs.retrieve, median", value=retrieve, unit="ms", reach="<= 3 ms", ok=retrieve <= 3)
            listing = median_ms(lambda: client.fine_tuning.jobs.list(limit=100), n_calls // 10)
            yield Result(name="jobs.list of 100, median", value=listing, unit="ms")
            events = median_ms(lambda: client.fine_tuning.jobs.list_events(job_id, limit=100), n_calls // 10)
            yield Result(name="jobs.list_events, median", value=events, unit="ms")


def fill(client: Any) -> str:
    """Create jobs and wait for the last one; return its id."""
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    data = (json.dumps(line) + "\n").encode() * 10
    file = client.files.create(file=("a.jsonl", data), purpose="fine-tune")
    numbers = {"n_epochs": 1, "batch_size": 10}
    for _ in range(100):
        job = client.fine_tuning.jobs.create(model="smollm2-135m", training_file=file.id, hyperparameters=numbers)
    while client.fine_tuning.jobs.retrieve(job.id).status != "succeeded":
        time.sleep(0.05)
    return str(job.id)


def median_ms(call: Callable[[], Any], n_calls: int) -> float:
    """The median of the call's times."""
    times = []
    for _ in range(n_calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3
