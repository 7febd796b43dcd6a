"""Preference training (DPO): do held-out pairs get ranked right, and are the losses those of TRL's DPOTrainer?

A pair is an example's own answer against one that another example has. `--data` names a folder with the banking77
file; without it, the demo's letters are used. `--trl PYTHON` names an interpreter of an environment with torch,
transformers, trl, peft and datasets, in which the same steps are taken from the same weights and adapter.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_backend.engine.weights import ensure
from local_backend.settings import Settings
from tests.benchmarks.runner import Options, Result

MODEL = "smollm2-135m"
RUNS = Path(__file__).parent / "training_runs"
DEMO = Path(__file__).parents[2] / "ftclient" / "demo" / "support.en.jsonl"
FILE = "banking77_train.jsonl"
N_PAIRS, N_HELD_OUT = 200, 100
COMPARED_STEPS = 10
LEAST_ACCURACY = 0.75
MOST_DIFFERENCE = 1e-4


def run(options: Options) -> Iterator[Result]:
    """Train on the pairs, rank those held out; then some steps beside TRL."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl", help="Python of an environment with trl")
    trl = parser.parse_args(options.rest).trl
    file = options.data / FILE if options.data else DEMO
    with tempfile.TemporaryDirectory() as folder:
        model_dir = write_work(Path(folder), file, scale=options.scale)
        yield from _ranked(_ours(model_dir, folder, "rank"))
        if trl:
            ours = _ours(model_dir, folder, "steps")
            theirs = _last_line([trl, str(RUNS / "trl_dpo.py"), str(model_dir), folder])
            yield from _compared(ours, theirs)


def write_work(folder: Path, file: Path, *, scale: float) -> Path:
    """Write pairs to train on, `train.jsonl`, and to hold out, `held.jsonl`; returns the model's folder."""
    lines = file.read_text(encoding="utf-8").splitlines()
    n_train, n_held = max(COMPARED_STEPS, int(N_PAIRS * scale)), max(8, int(N_HELD_OUT * scale))
    pairs = [json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs_of([json.loads(line) for line in lines])]
    (folder / "train.jsonl").write_text("".join(pairs[:n_train]), encoding="utf-8")
    (folder / "held.jsonl").write_text("".join(pairs[n_train : n_train + n_held]), encoding="utf-8")
    return ensure(MODEL, Settings()).path


def pairs_of(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each example's answer, preferred to another one of the file; in an order of their own."""
    chance = random.Random(5)
    answers = sorted({example["messages"][-1]["content"] for example in examples})
    chance.shuffle(examples)
    pairs = []
    for example in examples:
        *prompt, right = example["messages"]
        wrong = {**right, "content": chance.choice([one for one in answers if one != right["content"]])}
        pairs.append({"input": {"messages": prompt}, "preferred_output": [right], "non_preferred_output": [wrong]})
    return pairs


def _ours(model_dir: Path, folder: str, what: str) -> dict[str, Any]:
    return _last_line([sys.executable, "-m", "tests.benchmarks.training_runs.ours_dpo", str(model_dir), folder, what])


def _last_line(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _ranked(ours: dict[str, Any]) -> Iterator[Result]:
    accuracy = ours["held_accuracy"]
    yield Result(
        name="held-out pairs ranked right",
        value=accuracy,
        unit="",
        reach=f">= {LEAST_ACCURACY}",
        ok=accuracy >= LEAST_ACCURACY,
        details=ours,
    )


def _compared(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Result]:
    reach = f"<= {MOST_DIFFERENCE:g}"
    steps = list(zip(ours["losses"], theirs["losses"], strict=True))
    pairs = {
        "same batch, same start": steps[:1],
        f"{len(steps)} steps, same settings": steps,
        "held-out batch, same adapter": [(ours["held_loss"], theirs["held_loss"])],
        "held-out rewards, same adapter": list(zip(ours["held_rewards"], theirs["held_rewards"], strict=True)),
    }
    for name, both in pairs.items():
        worst = max(abs(one - other) for one, other in both)
        ok = worst <= MOST_DIFFERENCE
        # In millionths, because the table has two decimals.
        yield Result(name=f"{name}: difference of TRL's", value=worst * 1e6, unit="1e-6", reach=reach, ok=ok)
    ratio = ours["tokens_per_s"] / theirs["tokens_per_s"]
    yield Result(name="times TRL's tokens/s", value=ratio, unit="times", details={"ours": ours, "trl": theirs})
