"""A job that may be killed at any moment: python -m tests.benchmarks.training_runs.killable FOLDER WAY MODEL NAME.

Says "step N" after each step, and at its end one JSON line. Started again under the same name, it resumes.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import local_backend.engine  # noqa: F401 - before torch: it sets OpenMP's wait policy

# isort: split
from local_backend.engine import loop, pace
from local_backend.engine.training import prepare
from local_backend.engine.weights import ModelDir, weights_sha256
from local_backend.task import Hyperparameters, ModelRef, Task
from tests.training.tiny import Recording

TUNES = {
    "lora": {"type": "lora", "rank": 8, "alpha": 16, "dropout": 0.1},
    "dpo": {"type": "lora", "rank": 8, "alpha": 16},
    "full": {"type": "full"},
    "last_layers": {"type": "last_layers", "n": 2},
    "head": {"type": "head"},
}


class Telling(Recording):
    """Says what it has done."""

    def started(self, facts):
        """Say that training begins."""
        super().started(facts)
        print("step 0", flush=True)

    def step(self, report):
        """Say which step is done."""
        signal = super().step(report)
        print(f"step {report.step}", flush=True)
        return signal


def main() -> None:
    """Train and print."""
    folder, way, model, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    pace.RESUME_EVERY_S = 0.0  # a resume point after every step
    model_dir = (folder / model).resolve()
    base = ModelDir(path=model_dir, sha256=weights_sha256(model_dir), name=model)
    recorder = Telling()
    run = prepare(task_of(folder, way, name), base=base)
    start = time.perf_counter()
    outcome = loop.train(run, recorder)
    seconds = time.perf_counter() - start
    losses = [(report.train_loss, report.valid_loss, report.full_valid_loss) for report in recorder.reports]
    weights = b"".join(file.read_bytes() for file in sorted(outcome.model_dir.glob("*.safetensors")))
    sha256 = hashlib.sha256(weights).hexdigest()
    print(json.dumps({"sha256": sha256, "losses": losses, "seconds_a_step": seconds / max(1, len(losses))}))


def task_of(folder: Path, way: str, name: str) -> Task:
    """Six steps in two epochs."""
    file = "pairs" if way == "dpo" else "chat"
    return Task(
        job_id="ftjob-killed",
        model=ModelRef(base="smollm2-135m"),
        method="dpo" if way == "dpo" else "supervised",
        training_path=folder / f"{file}.jsonl",
        validation_path=folder / f"{file}-valid.jsonl",
        hyperparameters=Hyperparameters(n_epochs=2, batch_size=8, learning_rate_multiplier=1.0, beta=0.1),
        seed=3,
        local={"tune": TUNES[way]},
        work_dir=folder / "jobs" / name,
    )


if __name__ == "__main__":
    main()
