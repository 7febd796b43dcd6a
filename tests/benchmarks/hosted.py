"""Runs neither lost nor doubled, at full size: launches, a large upload and followers under faults and kill -9."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ftclient import Client, Dataset, hosts
from tests.benchmarks.runner import Options, Result
from tests.e2e.serving import simulated_server
from tests.faults.following import differing, follow_under_faults
from tests.faults.launching import Count, launch_under_faults
from tests.faults.proxy import FaultProxy

N_LAUNCHES, N_JOBS, UPLOAD_MB = 1_000, 50, 300
LEAST_MB = 100
"""Smaller files are not killed in their middle: they have too few parts."""
_RATE = 0.2


def run(options: Options) -> Iterator[Result]:
    """Count jobs, parts and events against what the server has."""
    n_launches, n_jobs = max(10, int(N_LAUNCHES * options.scale)), max(3, int(N_JOBS * options.scale))
    with tempfile.TemporaryDirectory() as name, simulated_server(Path(name) / "server") as url:
        folder, server = Path(name), url.removesuffix("/v1")
        yield from _upload(server, folder, n_bytes=int(max(LEAST_MB, UPLOAD_MB * options.scale) * 1_000_000))
        found = follow_under_faults(server, folder / "follow", n_jobs=n_jobs, seed=1, rate=_RATE)
        wrong, n_events = differing(found), sum(len(theirs) for _, theirs in found)
        yield Result(
            name="jobs followed with another list of events",
            value=wrong,
            unit="jobs",
            reach="0",
            ok=wrong == 0,
            details={"jobs": len(found), "events": n_events},
        )
        count = launch_under_faults(server, folder / "honoured", host="local", n=n_launches, seed=2, rate=_RATE)
        is_exact = len(count.jobs_of) == count.n_launches and set(count.jobs_of.values()) == {1} and not count.unknown
        yield _result("jobs, key honoured", count, reach=f"{count.n_launches}", ok=is_exact and _known(count))
        key = frozenset({"idempotency-key"})
        count = launch_under_faults(
            server, folder / "stripped", host="other", n=n_launches, seed=3, rate=_RATE, strip=key
        )
        is_safe = set(count.jobs_of.values()) == {1} and len(count.jobs_of) + len(count.unknown) == count.n_launches
        yield _result("jobs, key stripped", count, reach=f"<= {count.n_launches}", ok=is_safe and _known(count))


def _known(count: Count) -> bool:
    return set(count.known.values()) == count.job_ids


def _result(name: str, count: Count, *, reach: str, ok: bool) -> Result:
    details = {
        "kills": count.n_kills,
        "requests": count.n_requests,
        "faults": count.n_faults,
        "unknown": len(count.unknown),
    }
    return Result(name=name, value=sum(count.jobs_of.values()), unit="jobs", reach=reach, ok=ok, details=details)


def _upload(server: str, folder: Path, *, n_bytes: int) -> Iterator[Result]:
    """Kill an upload in its middle, and see what the next call sends."""
    path = folder / "large.jsonl"
    line = {"messages": [{"role": "user", "content": "x" * 900}, {"role": "assistant", "content": "y" * 50}]}
    dice = random.Random(1)
    with path.open("wb") as file:
        while file.tell() < n_bytes:
            line["messages"][1]["content"] = f"{dice.random():.50f}"
            file.write(json.dumps(line).encode() + b"\n")
    with FaultProxy(server) as proxy:
        sent = _sent(proxy)
        uploader = subprocess.Popen(
            [sys.executable, "-c", _UPLOAD, proxy.url, str(folder / "up"), str(path)], stdout=subprocess.PIPE
        )
        with uploader, uploader.stdout:
            uploader.stdout.readline()  # a third has arrived
            os.kill(uploader.pid, signal.SIGKILL)
        time.sleep(2)
        first = _sent(proxy) - sent
        with Client.at(proxy.url, host=hosts.LOCAL, home=folder / "up") as client:
            data = Dataset.read(path)
            kept = len(client._journal.begun_parts(str(client.openai.base_url), data.sha256).parts)
            start = time.monotonic()
            file_id = client.upload(data)
            took_s, second = time.monotonic() - start, _sent(proxy) - sent - first
            whole = hashlib.sha256(client.openai.files.content(file_id).read()).hexdigest() == data.sha256
    total = -(-data.size_bytes // (16 << 20))
    details = {
        "parts": total,
        "journalled": kept,
        "sent before": first,
        "MB": data.size_bytes // 10**6,
        "s": round(took_s, 1),
    }
    ok = whole and second == total - kept and 0 < kept < total
    yield Result(
        name="parts sent after kill -9", value=second, unit="parts", reach=f"{total - kept}", ok=ok, details=details
    )


_UPLOAD = """
import sys
from ftclient import Client, Dataset, hosts
def tell(sent, total):
    if sent > total / 3:
        print("third", flush=True)
Client.at(sys.argv[1], host=hosts.LOCAL, home=sys.argv[2]).upload(Dataset.read(sys.argv[3]), progress=tell)
"""


def _sent(proxy: FaultProxy) -> int:
    return sum(exchange.path.endswith("/parts") for exchange, _ in proxy.seen)
