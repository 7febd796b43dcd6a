"""What the plan says of memory and time on this machine, against jobs that really run, each in a fresh process.

Time is that from the creation of a job to its end, with the start of the runner's process and all that it loads; memory
is the peak of what the system held for that process. `--data` names a folder with some of the files in FILES; without
it, data are generated. `--only WORD` runs the lines that have the word in their name.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_backend import in_process
from local_backend.settings import Settings, default_cache
from tests.benchmarks.runner import Options, Result

MODEL = "smollm2-135m"
TUNES: dict[str, dict[str, Any]] = {"lora": {"type": "lora"}, "full": {"type": "full"}, "head": {"type": "head"}}
FILES = {
    # shape: (file, examples for LoRA and all weights, examples for the head alone, which is so much faster)
    "short": ("banking77_train.jsonl", 320, 1200),
    "long shared prompt": ("banking77_long_prompt.jsonl", 160, 640),
    "long unique": ("gsm8k.jsonl", 96, 320),
}
N_EPOCHS = 2
WITHIN_MEMORY, WITHIN_TIME = 0.15, 0.25
POLL_S = 0.25


def run(options: Options) -> Iterator[Result]:
    """Each way of tuning on each shape of data."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="run the lines that have this word in their name")
    only = parser.parse_args(options.rest).only
    with tempfile.TemporaryDirectory() as cache:  # the machine is measured anew; the weights are there already
        (Path(cache) / "models").symlink_to(default_cache() / "models", target_is_directory=True)
        for tune, chosen in TUNES.items():
            for shape, (file, n_examples, n_for_head) in FILES.items():
                n = max(20, int((n_for_head if tune == "head" else n_examples) * options.scale))
                name = f"{tune}, {shape}"
                if only in name:
                    lines = _read(options.data / file, n) if options.data else generated(shape, n)
                    yield from _compared(name, lines, chosen, cache=Path(cache))


def _read(file: Path, n_lines: int) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()[:n_lines]


def generated(shape: str, n_examples: int) -> list[str]:
    """Chat examples of a shape: 30 tokens; 30 behind 600 that all share; 300 to 700 that none shares."""
    dice = random.Random(7)
    system = [{"role": "system", "content": _text(dice, 450)}] if shape == "long shared prompt" else []
    lines = []
    for _ in range(n_examples):
        n_words = dice.randint(200, 500) if shape == "long unique" else dice.randint(8, 20)
        messages = [
            *system,
            {"role": "user", "content": _text(dice, n_words // 2)},
            {"role": "assistant", "content": _text(dice, n_words - n_words // 2)},
        ]
        lines.append(json.dumps({"messages": messages}))
    return lines


_WORDS = (
    "order arrived late card charged twice please look account again before Friday delivery cost more refund status"
)


def _text(dice: random.Random, n_words: int) -> str:
    return " ".join(dice.choice(_WORDS.split(" ")) for _ in range(max(1, n_words)))


def _compared(name: str, lines: list[str], tune: dict[str, Any], *, cache: Path) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), cache=cache)
        with in_process.client(settings) as client:
            plan, actual = measured(client, lines, tune)
    details = {
        "planned_s": plan["time_s"],
        "took_s": actual["time_s"],
        "planned_mib": plan["memory_bytes"] / 2**20,
        "took_mib": actual["memory_bytes"] / 2**20,
    }
    details = {key: round(value, 1) for key, value in details.items()}
    parts = {f"{part}_s": round(value, 1) for part, value in plan["time"].items()}
    terms = {f"{term}_mib": round(value / 2**20) for term, value in plan["memory"].items()}
    yield _ratio(f"{name}: memory", plan["memory_bytes"] / actual["memory_bytes"], WITHIN_MEMORY, {**details, **terms})
    yield _ratio(
        f"{name}: time",
        plan["time_s"] / actual["time_s"],
        WITHIN_TIME,
        {**details, **parts, "planning_s": round(actual["planning_s"], 1)},
    )


def _ratio(name: str, ratio: float, within: float, details: dict[str, Any]) -> Result:
    is_near = abs(ratio - 1) <= within
    return Result(name=name, value=ratio, unit="planned", reach=f"1 +- {within}", ok=is_near, details=details)


def measured(client: Any, lines: list[str], tune: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan a job, run it, and return the plan and what the job took, with the facts that it told."""
    file = client.files.create(
        file=("data.jsonl", "".join(f"{line}\n" for line in lines).encode()), purpose="fine-tune"
    )
    numbers = {"n_epochs": N_EPOCHS, "batch_size": 16}
    body = {"model": MODEL, "training_file": file.id, "seed": 7, "local": {"tune": tune}}
    body["method"] = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    started = time.monotonic()
    plan = client.post("/local/plan", body=body, cast_to=object, options={"timeout": 600.0})
    planning_s = time.monotonic() - started
    started = time.monotonic()
    job = client.post("/fine_tuning/jobs", body=body, cast_to=object)
    peak_bytes = 0
    while job["status"] not in {"succeeded", "failed", "cancelled"}:
        time.sleep(POLL_S)
        runner = client.get("/local/machine", cast_to=object)["runner"]
        peak_bytes = max(peak_bytes, _peak_bytes(runner["pid"]))
        job = client.get(f"/fine_tuning/jobs/{job['id']}", cast_to=object)
    if job["status"] != "succeeded":
        raise RuntimeError(f"The job {job['status']}: {job['error']}")
    facts = client.get(f"/local/jobs/{job['id']}", cast_to=object)["facts"]
    took = {"time_s": time.monotonic() - started, "memory_bytes": peak_bytes, "planning_s": planning_s, "facts": facts}
    return plan, took


def _peak_bytes(pid: int | None) -> int:
    """The most that the system ever held in memory for a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0  # not there yet, or ended
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
