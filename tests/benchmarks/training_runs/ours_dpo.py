"""DPO by this project's engine: python -m tests.benchmarks.training_runs.ours_dpo MODEL_DIR FOLDER rank|steps.

FOLDER holds train.jsonl and held.jsonl. `rank` trains on all pairs for two epochs and ranks those held out. `steps`
takes ten steps and leaves beside the files what another trainer needs to do the same: settings.json, the adapter it
starts from (`start`), the ids of each step's pairs (steps.json), those held out, and the adapter it ends at (`end`).
Prints one JSON line.
"""

import json
import resource
import shutil
import sys
import time
from pathlib import Path

import local_backend.engine  # noqa: F401 - before torch: it sets OpenMP's wait policy

# isort: split
from local_backend.engine import adapters, loop
from local_backend.engine.rows import Row
from local_backend.engine.training import Run, prepare
from local_backend.engine.weights import ModelDir, weights_sha256
from local_backend.task import Hyperparameters, ModelRef, Task
from tests.benchmarks.preference import COMPARED_STEPS
from tests.training.tiny import Recording

MODEL = "smollm2-135m"
BATCH_SIZE = 8
SETTINGS = {"learning_rate": 3e-4, "batch_size": BATCH_SIZE, "beta": 0.1, "max_grad_norm": 1.0}
"""Of the compared steps; the other trainer reads them from settings.json."""


def main() -> None:
    """Train and print."""
    model_dir, folder, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    base = ModelDir(path=model_dir, sha256=weights_sha256(model_dir), name=str(model_dir))
    figures = rank(base, folder) if what == "rank" else steps(base, folder)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**figures, "peak_bytes": peak_bytes}))


def rank(base: ModelDir, folder: Path) -> dict[str, object]:
    """Train as a job would that chose nothing but the number of epochs."""
    run = prepare(task_of(folder, "rank", validation=folder / "held.jsonl", n_epochs=2), base=base)
    recorder = Recording()
    start = time.perf_counter()
    loop.train(run, recorder)
    seconds = time.perf_counter() - start
    _, _, first = recorder.checkpoints[0]
    held = run.objective.score(run.valid_rows, max_tokens=1000, between=lambda: None)
    return {
        "pairs": len(run.rows),
        "held_pairs": len(run.valid_rows),
        "held_accuracy": held.extra["rewards_accuracy"],
        "held_margin": held.extra["rewards_margin"],
        "held_loss": held.loss,
        "held_loss_after_one_epoch": first["full_valid_loss"],
        "seconds": seconds,
    }


def steps(base: ModelDir, folder: Path) -> dict[str, object]:
    """Take some steps of a constant rate, then compare the held-out pairs under what was learnt."""
    local = {
        "learning_rate": SETTINGS["learning_rate"],
        "tune": {"type": "lora", "rank": 16, "alpha": 32},
        "schedule": {"type": "constant", "warmup_share": 0.0, "max_grad_norm": SETTINGS["max_grad_norm"]},
    }
    (folder / "settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "few.jsonl").write_text("".join(lines[: BATCH_SIZE * COMPARED_STEPS]), encoding="utf-8")
    run = prepare(task_of(folder, "few", local=local), base=base)
    run.save_model(folder / "start")
    ordered = [row for step in range(run.total_steps) for row in run.step_rows(step)]
    (folder / "steps.json").write_text(json.dumps([parts_of(row) for row in ordered]), encoding="utf-8")
    recorder = Recording()
    start = time.perf_counter()
    outcome = loop.train(run, recorder)
    seconds = time.perf_counter() - start
    shutil.copytree(outcome.model_dir, folder / "end")
    return {
        "losses": [report.train_loss for report in recorder.reports],
        "grad_norms": [report.extra["grad_norm"] for report in recorder.reports],
        "margins": [report.extra["rewards_margin"] for report in recorder.reports],
        "tokens_per_s": sum(row.n_tokens for row in ordered) / seconds,
        **held_out(base, folder, local),
    }


def held_out(base: ModelDir, folder: Path, local: dict[str, object]) -> dict[str, object]:
    """Loss and rewards of the held-out pairs with the adapter in `end`, measured against the base model."""
    run: Run = prepare(task_of(folder, "few", validation=folder / "held.jsonl", local=local, name="held"), base=base)
    held = run.valid_rows[:BATCH_SIZE]
    (folder / "held.json").write_text(json.dumps([parts_of(row) for row in held]), encoding="utf-8")
    nothing = {"max_tokens": 1000, "between": lambda: None}
    run.objective.set_reference(held, file=folder / "held-reference", **nothing)
    adapters.load_adapter(run.network.model, folder / "end")
    measured = run.objective.score(held, **nothing)
    rewards = [measured.extra["rewards_chosen"], measured.extra["rewards_rejected"]]
    return {"held_loss": measured.loss, "held_rewards": rewards}


def parts_of(row: Row) -> dict[str, list[int]]:
    """A pair as TRL's collator takes it: what comes before the answers, and the answers."""
    preferred, other = row.parts
    n_prompt = preferred.weights.index(1.0)
    assert n_prompt == other.weights.index(1.0)
    return {
        "prompt_ids": preferred.ids[:n_prompt],
        "chosen_ids": trained(preferred.ids, preferred.weights),
        "rejected_ids": trained(other.ids, other.weights),
    }


def trained(ids: list[int], weights: list[float]) -> list[int]:
    """The ids from the first trained one to the last; nothing between them is left out, and nothing follows."""
    kept = [token for token, weight in zip(ids, weights, strict=True) if weight]
    start = weights.index(1.0)
    assert kept == ids[start : start + len(kept)]
    return kept


def task_of(
    folder: Path,
    file: str,
    *,
    validation: Path | None = None,
    local: dict[str, object] | None = None,
    n_epochs: int = 1,
    name: str | None = None,
) -> Task:
    """A job of preference training on one of the files ("rank" is the whole of train.jsonl)."""
    return Task(
        job_id="ftjob-preference",
        model=ModelRef(base=MODEL),
        method="dpo",
        training_path=folder / ("train.jsonl" if file == "rank" else f"{file}.jsonl"),
        validation_path=validation,
        hyperparameters=Hyperparameters(
            n_epochs=n_epochs, batch_size=BATCH_SIZE, learning_rate_multiplier=1.0, beta=SETTINGS["beta"]
        ),
        seed=7,
        local=local or {},
        work_dir=folder / f"job-{name or file}",
    )


if __name__ == "__main__":
    main()
