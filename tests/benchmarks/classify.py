"""Tuning MiniLM to 77 classes of bank customers' questions, beside transformers' Trainer on the same files.

`--data` names a folder with banking77_train.jsonl and banking77_test.jsonl; without it nothing is measured. `--ways`
takes `head`, `full` or `head,full` (the default). `--alone` leaves the Trainer out; `--trainer-steps N` lets it do so
many steps only, whose time is taken for all, and nothing is said about its accuracy. Both sides train as many epochs
in steps of 32, and write a checkpoint after each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_backend.engine.weights import ensure
from local_backend.settings import Settings
from tests.benchmarks.runner import Options, Result

RUNS = Path(__file__).parent / "classify_runs"
WAYS = {
    # way: (epochs, least accuracy in percent, most seconds in all, times as fast as the Trainer, the Trainer's rate)
    "head": (10, 91.0, 60.0, 10.0, "1e-2"),
    "full": (3, 92.0, 900.0, 1.5, "2e-4"),
}
"""Whole weights train at the same rate on both sides; a last layer on its own wants a higher one than the default."""


def run(options: Options) -> Iterator[Result]:
    """Each way of tuning, with this engine and with the Trainer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ways", default="head,full")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--trainer-steps", type=int, default=0)
    given = parser.parse_args(options.rest)
    if options.data is None:
        raise SystemExit("`classify` needs --data: a folder with banking77_train.jsonl and banking77_test.jsonl")
    model_dir = ensure("minilm-l6", Settings()).path
    with tempfile.TemporaryDirectory() as folder:
        files = _files(options.data, options.scale, Path(folder))
        for way in given.ways.split(","):
            yield from _way(way, [str(model_dir), *files], alone=given.alone, steps=given.trainer_steps)


def _files(data: Path, scale: float, folder: Path) -> list[str]:
    """Training and test file, or the shares of them that the scale asks for: the same labels in both."""
    train, test = (
        (data / name).read_text(encoding="utf-8").splitlines()
        for name in ("banking77_train.jsonl", "banking77_test.jsonl")
    )
    train = train[: int(len(train) * scale)]
    known = {_label(line) for line in train}
    test = [line for line in test[: int(len(test) * scale)] if _label(line) in known]
    for name, lines in (("train.jsonl", train), ("test.jsonl", test)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [str(folder / "train.jsonl"), str(folder / "test.jsonl")]


def _label(line: str) -> str:
    return str(json.loads(line)["messages"][-1]["content"])


def _way(way: str, files: list[str], *, alone: bool, steps: int) -> Iterator[Result]:
    n_epochs, least, most_s, times, rate = WAYS[way]
    arguments = [*files, way, str(n_epochs)]
    started = time.perf_counter()
    ours = _measured([sys.executable, "-m", "tests.benchmarks.classify_runs.ours", *arguments])
    seconds = time.perf_counter() - started
    percent = 100 * ours["accuracy"]
    yield Result(name=f"{way}: right", value=percent, unit="%", reach=f">= {least}", ok=percent >= least, details=ours)
    yield Result(name=f"{way}: all told", value=seconds, unit="s", reach=f"<= {most_s}", ok=seconds <= most_s)
    if alone:
        return
    theirs = _measured([sys.executable, str(RUNS / "trainer.py"), *arguments, rate, *([str(steps)] if steps else [])])
    share = theirs["steps"] / ours["steps"]
    if share == 1:
        more = percent - 100 * theirs["accuracy"]
        yield Result(name=f"{way}: more right than Trainer", value=more, unit="%", reach=">= 0", ok=more >= 0)
    for clock, name in (("train_s", "wall"), ("train_cpu_s", "processor")):
        ratio = theirs[clock] / share / ours[clock]
        yield Result(
            name=f"{way}: times Trainer ({name} time)",
            value=ratio,
            unit="times",
            reach=f">= {times}",
            ok=ratio >= times,
            details=theirs,
        )


def _measured(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
