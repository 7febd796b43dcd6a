"""An evaluation that is killed, again and again: no answer that came is asked for twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.serving import ROOT, simulated_server
from tests.faults.proxy import Exchange, Fault, FaultProxy

MODEL = "smollm2-135m"
N_QUESTIONS = 60
WORKERS = 4
PROGRAM = """
import sys
from ftclient import Client, Dataset

def example(number):
    said = f"Where is parcel {number}?"
    return {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": f"You said: {said}"}]}

url, home, n, workers, model = sys.argv[1:]
with Client.at(url, home=home) as client:
    found = client.evaluate(Dataset(map(example, range(int(n)))), models=[model], workers=int(workers))
    print(found.scores[0].exact_match)
"""


@pytest.mark.slow
def test_kill_9_during_evaluate_loses_no_answer_and_asks_none_twice(tmp_path):
    home = tmp_path / "client"
    with simulated_server(tmp_path / "server") as url, FaultProxy(url.removesuffix("/v1"), choose=slowly) as proxy:
        for enough in (10, 30):
            _killed(proxy, home, enough=enough)
            asked, stored = n_asked(proxy), n_stored(home)
            assert enough <= stored <= asked <= stored + 2 * WORKERS
        before, stored = n_asked(proxy), n_stored(home)
        process = _start(proxy, home)
        said, _ = process.communicate(timeout=60)
        assert float(said) == 1.0
        assert n_asked(proxy) - before == N_QUESTIONS - stored
        assert n_stored(home) == N_QUESTIONS
        # Only what was on its way when the process was killed has been sent again.
        assert n_asked(proxy) <= N_QUESTIONS + 2 * WORKERS
        before = n_asked(proxy)
        process = _start(proxy, home)
        said, _ = process.communicate(timeout=60)
        assert float(said) == 1.0
        assert n_asked(proxy) == before


def slowly(exchange: Exchange) -> Fault:
    return Fault(delay_s=0.05 if exchange.path.endswith("/chat/completions") else 0.0)


def _killed(proxy: FaultProxy, home: Path, *, enough: int) -> None:
    """Start an evaluation and kill it once so many answers are kept."""
    process = _start(proxy, home)
    deadline = time.monotonic() + 60
    while n_stored(home) < enough and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()


def _start(proxy: FaultProxy, home: Path) -> subprocess.Popen[str]:
    arguments = [f"{proxy.url}/v1", str(home), str(N_QUESTIONS), str(WORKERS), MODEL]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def n_asked(proxy: FaultProxy) -> int:
    return sum(exchange.path.endswith("/chat/completions") for exchange, _ in list(proxy.seen))


def n_stored(home: Path) -> int:
    path = home / "client.db"
    if not path.exists():
        return 0
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return 0
    finally:
        db.close()
