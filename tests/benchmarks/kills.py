"""kill -9 in the middle of training, twenty times: does each resumed run end with the same weights, to the bit?

Every way of tuning is run once undisturbed. Then the same job is started again and again, killed at a random moment
after a random step, and resumed by another process to its end. LoRA and DPO train SmolLM2-135M, the other ways a small
model of the same shape and tokenizer with random weights.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_backend.engine.weights import ensure
from local_backend.settings import Settings
from tests.benchmarks.preference import DEMO, pairs_of
from tests.benchmarks.runner import Options, Result

WAYS = {
    # way: (kills, whether the model is SmolLM2 itself)
    "lora": (6, True),
    "dpo": (4, True),
    "full": (4, False),
    "last_layers": (3, False),
    "head": (3, False),
}
N_EXAMPLES = 24
SEED = 11


def run(options: Options) -> Iterator[Result]:
    """Each way of tuning: one run to compare with, then the killed ones."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ways", default=",".join(WAYS), help="which ways of tuning, with commas between")
    ways = parser.parse_args(options.rest).ways.split(",")
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        for way in ways:
            n_kills, is_real = WAYS[way]
            chance = random.Random(f"{SEED} {way}")
            killable = Killable(Path(folder), way, "smollm2" if is_real else "small")
            whole = killable.run(f"{way}-whole")
            kills = [killable.kill(f"{way}-{n}", whole, chance) for n in range(max(1, round(n_kills * options.scale)))]
            alike = sum(kill["is_alike"] for kill in kills)
            yield Result(
                name=f"{way}: killed runs that end alike to the bit",
                value=alike,
                unit=f"of {len(kills)}",
                reach="all",
                ok=alike == len(kills),
                details={"killed": kills},
            )


def write_files(folder: Path) -> None:
    """Write training and validation files for chat and for preferences, and both models."""
    lines = DEMO.read_text(encoding="utf-8").splitlines()[: N_EXAMPLES + 4]
    pairs = [json.dumps(pair) for pair in pairs_of([json.loads(line) for line in lines])]
    for name, examples in {"chat": lines, "pairs": pairs}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(examples[:N_EXAMPLES]) + "\n", encoding="utf-8")
        (folder / f"{name}-valid.jsonl").write_text("\n".join(examples[N_EXAMPLES:]) + "\n", encoding="utf-8")
    (folder / "smollm2").symlink_to(ensure("smollm2-135m", Settings()).path)
    write_small_model(folder / "smollm2", folder / "small")


def write_small_model(like: Path, to: Path) -> None:
    """A model of a real one's shape with fewer and narrower layers, and its tokenizer."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(like)
    sizes = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 5}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16}
    config.update({**sizes, **heads})
    torch.manual_seed(SEED)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(to)
    transformers.AutoTokenizer.from_pretrained(like).save_pretrained(to)


@dataclass
class Killable:
    """One job that is run several times, each in a folder of its own."""

    folder: Path
    way: str
    model: str

    def run(self, name: str) -> dict[str, Any]:
        """Run, or resume, to the end; what the program says last: weights and the losses of the steps it took."""
        done = subprocess.run(self._command(name), check=True, capture_output=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def kill(self, name: str, whole: dict[str, Any], chance: random.Random) -> dict[str, Any]:
        """Kill it somewhere after a random step and resume it; returns where, and whether it ended like `whole`."""
        n_steps = len(whole["losses"])
        step, delay_s = chance.randrange(n_steps), chance.uniform(0.0, whole["seconds_a_step"])
        if not self._is_killed(name, step=step, delay_s=delay_s):
            return self.kill(f"{name}-again", whole, chance)  # it had come to its end
        resumed = self.run(name)
        n_left = len(resumed["losses"])
        has_same_losses = resumed["losses"] == whole["losses"][n_steps - n_left :]
        is_alike = has_same_losses and resumed["sha256"] == whole["sha256"]
        return {"after_step": step, "resumed_from": n_steps - n_left, "is_alike": is_alike}

    def _is_killed(self, name: str, *, step: int, delay_s: float) -> bool:
        with subprocess.Popen(self._command(name), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            _wait_for(process.stdout, f"step {step}")
            time.sleep(delay_s)
            process.kill()
        return process.returncode == -signal.SIGKILL

    def _command(self, name: str) -> list[str]:
        module = "tests.benchmarks.training_runs.killable"
        return [sys.executable, "-m", module, str(self.folder), self.way, self.model, name]


def _wait_for(stdout: Iterator[str], line: str) -> None:
    for one in stdout:
        if one.strip() == line:
            return
    raise RuntimeError(f"It ended before {line}.")
