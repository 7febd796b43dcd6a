"""What keeping the output of frozen blocks saves over ten epochs, where the head or the last two blocks train.

`--data` names a folder with some of the files in FILES; without it, the demo's file is used. The job is trained with
and without it, by the same loop; an epoch without it is measured and counted ten times, since all are alike. Filling
the file counts, writing checkpoints doesn't (it is the same both ways).

With it each epoch still computes what trains, so no engine could be faster than `bound`, a ratio of operations counted
by hand. It is below ten times 0.7 where answers are a large part of the tokens, or the two last blocks a large part of
the model. The bound is for equal efficiency; large products run nearer to the machine's rate than whole blocks do.
Last of all comes a random model so deep, and of so few tokens, that the bound lies above the mark for both ways.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_backend.engine.weights import ensure
from local_backend.settings import Settings
from tests.benchmarks.runner import Options, Result
from tests.benchmarks.training import DEMO, MODEL, measured
from tests.training.tiny import tiny_folder

N_EPOCHS = 10
FILES = {
    "banking77_long_prompt.jsonl": 256,
    "banking77_train.jsonl": 512,
    "jcommonsenseqa_ja.jsonl": 256,
    "gsm8k.jsonl": 96,
}
EXAMPLES_FROM, N_EXAMPLES, N_SHOTS = "banking77_train.jsonl", 96, 12
"""From this file comes another, of questions with twelve answered ones in each prompt, as retrieval would put there."""
REACH = 0.7 * N_EPOCHS
DEEP = {
    "num_hidden_layers": 256,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}
N_DEEP = 128
SHARE_OF_BOUND = 0.8
"""What is asked for where the bound is lower than that: the count leaves out norms, optimizer, and reading."""


def run(options: Options) -> Iterator[Result]:
    """Each file, by both ways of tuning."""
    model_dir = ensure(MODEL, Settings()).path
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, n_examples in _files(options.data, folder):
            yield from _both_ways(file.stem, model_dir, file, int(n_examples * options.scale))
        deep = tiny_folder(folder / "deep", **DEEP).path
        yield from _both_ways("256 blocks", deep, DEMO, int(N_DEEP * options.scale))


def _both_ways(name: str, model_dir: Path, file: Path, n_examples: int) -> Iterator[Result]:
    script = [sys.executable, "-m", "tests.benchmarks.training_runs.frozen_job"]
    for kind in ("head", "last2"):
        arguments = [str(model_dir), str(file), str(max(32, n_examples)), kind, str(N_EPOCHS)]
        anew, kept = (measured([*script, *arguments, way]) for way in ("anew", "kept"))
        yield _result(f"{name}, {kind}", anew, kept)


def _files(data: Path | None, made: Path) -> Iterator[tuple[Path, int]]:
    if data is None:
        yield DEMO, 240
        return
    yield from ((data / name, n) for name, n in FILES.items() if (data / name).is_file())
    if (data / EXAMPLES_FROM).is_file():
        file = made / f"{Path(EXAMPLES_FROM).stem}_{N_SHOTS}_shots.jsonl"
        lines = (data / EXAMPLES_FROM).read_text(encoding="utf-8").splitlines()
        file.write_text("".join(_with_shots(lines)), encoding="utf-8")
        yield file, N_EXAMPLES


def _with_shots(lines: list[str]) -> Iterator[str]:
    """Put answered questions, others for each example, before its own."""
    chats = [json.loads(line)["messages"] for line in lines]
    chance = random.Random(0)
    for chat in chats[:N_EXAMPLES]:
        shots = "\n".join(f"{one[-2]['content']} -> {one[-1]['content']}" for one in chance.sample(chats, N_SHOTS))
        asked = {**chat[-2], "content": f"{shots}\n\n{chat[-2]['content']}"}
        yield json.dumps({"messages": [*chat[:-2], asked, chat[-1]]}) + "\n"


def _result(name: str, anew: dict[str, Any], kept: dict[str, Any]) -> Result:
    if anew["is_kept"] or not kept["is_kept"]:
        message = "The two ways are not what they are called."
        raise RuntimeError(message)
    seconds = kept["fill_s"] + kept["steps_s"]
    ratio = N_EPOCHS * anew["steps_s"] / seconds
    trained = N_EPOCHS * anew["trained_flops"]
    bound = (N_EPOCHS * anew["frozen_flops"] + trained) / (anew["fill_flops"] + trained)
    reach = min(REACH, SHARE_OF_BOUND * bound)
    apart = max(abs(a - b) / b for a, b in zip(kept["losses"], anew["losses"], strict=True))
    details = {
        "bound": round(bound, 2),
        "trained_share_of_tokens": round(anew["trained_share"], 3),
        "epoch_anew_s": round(anew["steps_s"], 2),
        "fill_s": round(kept["fill_s"], 2),
        "epoch_kept_s": round(kept["steps_s"] / N_EPOCHS, 2),
        "ratio_of_processor_time": round(_cpu_ratio(anew, kept), 2),
        "job_s": round(kept["job_s"], 1),
        "losses_apart": float(f"{apart:.1e}"),
        "peak_bytes": [anew["peak_bytes"], kept["peak_bytes"]],
    }
    is_same = apart < 1e-5
    return Result(
        name=name, value=ratio, unit="times", reach=f">= {reach:.1f}", ok=ratio >= reach and is_same, details=details
    )


def _cpu_ratio(anew: dict[str, Any], kept: dict[str, Any]) -> float:
    """The same ratio in processor time, by the median step: other work on the machine disturbs it less."""
    n_steps = kept["n_steps"]
    return n_steps * float(anew["step_cpu_s"]) / (float(kept["fill_cpu_s"]) + n_steps * float(kept["step_cpu_s"]))
