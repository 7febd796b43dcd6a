"""The way out, to its end: a hosted job trained again on the real SmolLM2, and compared with what was recorded."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ftclient import Client, Dataset, Supervised, hosts
from ftclient.keep.download import save
from ftclient.keep.folder import KeepFolder
from ftclient.keep.golden import record
from ftclient.keep.inventory import inventory
from ftclient.keep.prompts import prompts_of
from tests.benchmarks.runner import Options, Result
from tests.e2e.serving import HOSTED_MODEL, run_program, simulated_server
from tests.training.test_real_model import SHIPS


def run(options: Options) -> Iterator[Result]:
    """Save an account, let it go, and see how near the open model's answers come to those that were recorded."""
    n_epochs = max(1, round(10 * options.scale))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job_id = _save_account(folder, n_epochs=n_epochs)
        command = [sys.executable, "-m", "ftclient", "--backend", "local", "keep", "retrain", str(folder / "kept")]
        start = time.monotonic()
        found = json.loads(run_program(*command, job_id, "--json", home=folder / "own"))
        took_s = time.monotonic() - start
        again = json.loads(run_program(*command, job_id, "--json", home=folder / "own"))
    details = {"prompts": found["n"], "epochs": n_epochs, "s": round(took_s, 1)}
    exact, similarity, before = (100 * found[key] for key in ("exact", "similarity", "untuned_similarity"))
    yield Result(name="answers as recorded", value=exact, unit="%", reach=">= 90 %", ok=exact >= 90, details=details)
    yield Result(name="text in common", value=similarity, unit="%", reach="> untrained", ok=similarity > before)
    yield Result(name="text in common, untrained", value=before, unit="%")
    n_jobs = len({found["model"], again["model"]})
    yield Result(name="jobs after a second run", value=n_jobs, unit="jobs", reach="1", ok=n_jobs == 1)


def _save_account(folder: Path, *, n_epochs: int) -> str:
    """Save an account with one tuned model and its answers; return its job's id."""
    names = ("user", "assistant")
    asked = ((f"What is the {name}?", text) for name, text in SHIPS)
    data = Dataset(
        {"messages": [{"role": role, "content": text} for role, text in zip(names, pair, strict=True)]}
        for pair in asked
    )
    home = folder / "client"
    with simulated_server(home / "account") as url, Client.at(url, host=hosts.OPENAI, api_key="k", home=home) as client:
        plan = client.plan(data, model=HOSTED_MODEL, method=Supervised(n_epochs=n_epochs, batch_size=2), seed=1)
        result = client.train(plan).wait(timeout_s=60)
        kept = KeepFolder(folder / "kept")
        assert save(client, kept, inventory(client)) == []
        assert record(client, kept, result.model, prompts_of(data)) == len(SHIPS)
    return result.job_id
