"""Training speed and memory, against TRL's SFTTrainer on the same file and machine.

`--data` names a folder with some of the files in FILES; without it, the demo's file is used. (TRL's padded mode takes
18 GB for the long prompts.) `--trl PYTHON` names an interpreter of an
environment with torch, transformers, trl, peft and datasets; without it only this project's figures are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_backend.engine.weights import ensure
from local_backend.settings import Settings
from tests.benchmarks.runner import Options, Result

MODEL = "smollm2-135m"
RUNS = Path(__file__).parent / "training_runs"
DEMO = Path(__file__).parents[2] / "ftclient" / "demo" / "support.en.jsonl"
FILES = {
    # file: (examples, how many times TRL's tokens/s are to be reached)
    "banking77_long_prompt.jsonl": (64, 15.0),
    "banking77_train.jsonl": (128, 3.5),
    "gsm8k.jsonl": (64, 2.2),
}
LEAST_SHARE = 0.55


def run(options: Options) -> Iterator[Result]:
    """Each file by this engine, then by TRL in both of its modes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl", help="Python of an environment with trl")
    trl = parser.parse_args(options.rest).trl
    model_dir = ensure(MODEL, Settings()).path
    folder = options.data
    files = [(folder / name, *figures) for name, figures in FILES.items()] if folder else [(DEMO, 128, 2.2)]
    for file, n_examples, times in (one for one in files if one[0].is_file()):
        n = max(8, int(n_examples * options.scale))
        arguments = [str(model_dir), str(file), str(n)]
        ours = measured([sys.executable, "-m", "tests.benchmarks.training_runs.ours", *arguments])
        yield from _own_results(file.stem, ours)
        if trl:
            script = str(RUNS / "trl_sft.py")
            theirs = {mode: measured([trl, script, *arguments, mode]) for mode in ("pad", "pack")}
            yield from _comparison(file.stem, ours, theirs, times)


def measured(command: list[str]) -> dict[str, Any]:
    """Run a program in a process of its own; it reports its peak memory itself, so that nobody disturbs it."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _own_results(name: str, ours: dict[str, Any]) -> Iterator[Result]:
    yield Result(name=f"{name}: real tokens", value=ours["tokens_per_s"], unit="tokens/s", details=ours)
    share = ours["share_of_matmul_rate"]
    reach = f">= {LEAST_SHARE}"
    yield Result(name=f"{name}: share of the matmul rate", value=share, unit="", reach=reach, ok=share >= LEAST_SHARE)


def _comparison(name: str, ours: dict[str, Any], theirs: dict[str, Any], times: float) -> Iterator[Result]:
    best = max(mode["tokens_per_s"] for mode in theirs.values())
    ratio = ours["tokens_per_s"] / best
    reach = f">= {times}"
    yield Result(
        name=f"{name}: times TRL's best", value=ratio, unit="times", reach=reach, ok=ratio >= times, details=theirs
    )
    memory = ours["peak_bytes"] / theirs["pad"]["peak_bytes"]
    yield Result(
        name=f"{name}: memory of TRL's padded mode", value=memory, unit="times", reach="<= 0.5", ok=memory <= 0.5
    )
