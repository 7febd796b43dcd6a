"""A job whose lower blocks are frozen: ... training_runs.frozen_job MODEL_DIR FILE N TUNE EPOCHS kept|anew.

`kept` is the job as users run it, all epochs. `anew` computes the frozen blocks in every step, for one epoch of them.
Prints one JSON line: seconds, losses, and the operations that the maths needs.
"""

import hashlib
import json
import resource
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import local_backend.engine  # noqa: F401 - before torch: it sets OpenMP's wait policy

# isort: split
from local_backend.engine import frozen, loop
from local_backend.engine.network import Network
from local_backend.engine.packing import Pack
from local_backend.engine.training import Run, prepare, sequences
from local_backend.engine.weights import ModelDir
from local_backend.task import Hyperparameters, ModelRef, Signal, StepReport, Task

BATCH_SIZE = 32
TUNE = {"head": {"type": "head"}, "last2": {"type": "last_layers", "n": 2}}


class Watch:
    """A recorder that takes the time, and cancels after some steps."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.begun = time.perf_counter(), time.process_time()
        self.fill_s = self.fill_cpu_s = 0.0
        self.reports: list[StepReport] = []
        self.cpu_s: list[float] = []

    def started(self, facts: dict) -> None:  # noqa: ARG002 - the recorder's interface
        """The frozen blocks have been computed, if they are kept."""
        if not self.reports:
            self.fill_s, self.fill_cpu_s = time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]

    def step(self, report: StepReport) -> Signal:
        """Keep the report, and how much processor time had been taken by then."""
        self.reports.append(report)
        self.cpu_s.append(time.process_time())
        return Signal.CANCEL if len(self.reports) == self.n_steps else Signal.GO_ON

    def checkpoint(self, **_: object) -> None:
        """Checkpoints are written either way and are no part of the comparison."""

    def signal(self) -> Signal:
        """Go on."""
        return Signal.GO_ON


def main() -> None:
    """Train and print."""
    model_dir, file, n_examples, kind, n_epochs, way = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
    if way == "anew":
        frozen.SHARE_OF_FREE_DISK = 0.0  # as where the disk is full
    with tempfile.TemporaryDirectory() as folder:
        training = Path(folder) / "train.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines()[: int(n_examples)]
        training.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        run = prepare(_task(Path(folder), training, kind, int(n_epochs)), base=_base(model_dir))
        watch = Watch(run.steps_per_epoch if way == "anew" else run.total_steps)
        loop.train(run, watch)
        is_kept = run.network.frozen is not None
        run.network.frozen = None
        print(json.dumps(_figures(run, watch, kind) | {"is_kept": is_kept}))


def _task(folder: Path, training: Path, kind: str, n_epochs: int) -> Task:
    return Task(
        job_id="ftjob-benchmark",
        model=ModelRef(base="smollm2-135m"),
        method="supervised",
        training_path=training,
        validation_path=None,
        hyperparameters=Hyperparameters(n_epochs=n_epochs, batch_size=BATCH_SIZE, learning_rate_multiplier=1.0),
        seed=7,
        local={"tune": TUNE[kind], "learning_rate": 1e-4},
        work_dir=folder / "job",
    )


def _base(model_dir: Path) -> ModelDir:
    return ModelDir(path=model_dir, sha256=hashlib.sha256(str(model_dir).encode()).hexdigest(), name="smollm2-135m")


def _figures(run: Run, watch: Watch, kind: str) -> dict:
    count = Operations(run.network, kind)
    limit = run.first_progress().micro_batch_tokens
    steps = [run.step_rows(step) for step in range(run.steps_per_epoch)]
    packs = [one for rows in steps for one in _packs(run.network, sequences(rows), limit)]
    return {
        "fill_s": watch.fill_s,
        "fill_cpu_s": watch.fill_cpu_s,
        "steps_s": sum(report.extra["seconds"] for report in watch.reports),
        "step_cpu_s": statistics.median(after - before for before, after in pairwise(watch.cpu_s)),
        "n_steps": len(watch.reports),
        "job_s": time.perf_counter() - watch.begun[0],
        "losses": [report.train_loss for report in watch.reports[: run.steps_per_epoch]],
        "frozen_flops": sum(count.frozen(one) for one in packs),
        "trained_flops": sum(count.trained(one) for one in packs),
        "fill_flops": sum(count.frozen(one) for one in _packs(run.network, sequences(run.rows), limit)),
        "trained_share": sum(len(one.row_targets_R) for one in packs) / sum(one.n_tokens for one in packs),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _packs(network: Network, parts: list, limit: int) -> list[Pack]:
    return [one for _, one in network.packs([[part] for part in parts], max_tokens=limit)]


class Operations:
    """Operations that the maths needs for a pack, below the lowest trained weight and from it on."""

    def __init__(self, network: Network, kind: str) -> None:
        config = network.model.config
        self.n_blocks = config.num_hidden_layers
        self.n_trained = {"head": 0, "last2": 2}[kind]
        self.width = config.num_attention_heads * config.head_dim
        first = network.model.model.layers[0]
        self.block = sum(p.numel() for p in first.parameters() if p.dim() > 1)
        self.into = sum(getattr(first.self_attn, name).weight.numel() for name in ("q_proj", "k_proj", "v_proj"))
        self.head = config.vocab_size * config.hidden_size

    def frozen(self, part: Pack) -> float:
        """Forward. If nothing above needs the rest, the topmost block is computed at trained positions only."""
        n = self.n_blocks - self.n_trained
        whole = 2 * self.block * part.n_tokens + self._attention(part)
        spared = 2 * (self.block - self.into) * (part.n_tokens - len(part.row_targets_R))
        return n * whole - (spared if self.n_trained == 0 else 0)

    def trained(self, part: Pack) -> float:
        """Forward, gradients of weights, and of what they are multiplied with unless that comes from frozen blocks."""
        n_rows = len(part.row_targets_R)
        if self.n_trained == 0:
            return 4 * self.head * n_rows
        lower = (self.n_trained - 1) * 6 * self.block * part.n_tokens - 2 * self.into * part.n_tokens
        top = 6 * self.into * part.n_tokens + 6 * (self.block - self.into) * n_rows
        return lower + top + self.n_trained * 3 * self._attention(part) + 4 * self.head * n_rows

    def _attention(self, part: Pack) -> float:
        return 4 * self.width * float((part.positions_T + 1).sum())


if __name__ == "__main__":
    main()
