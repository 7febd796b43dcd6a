"""A run: everything that the loop works with, made from a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from local_backend.engine import adapters
from local_backend.engine.checkpoint import Progress, whole_folder
from local_backend.engine.device import Machine, choose_machine
from local_backend.engine.matmul import uses_onednn
from local_backend.engine.network import MICRO_BATCH_TOKENS, Network, load_network, tune
from local_backend.engine.rows import Row, read_rows, step_indices
from local_backend.engine.schedule import rate_factor, resolve_rate
from local_backend.engine.template import Rendered, Template
from local_backend.engine.weights import ModelDir
from local_backend.task import JobError, Task

DEFAULT_TUNE: Mapping[str, Any] = {"type": "lora"}


@dataclass(frozen=True)
class Run:
    """One job, loaded and rendered."""

    task: Task
    base: ModelDir
    network: Network
    optimizer: torch.optim.Optimizer
    rows: list[Row]
    valid_rows: list[Row]
    options: Mapping[str, Any]
    """How to tune: those asked for, or those of the adapter that the run starts from."""
    rate: float
    """Peak learning rate."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch; the last one takes what is left."""
        return -(-len(self.rows) // self.task.hyperparameters.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.task.hyperparameters.n_epochs

    def step_rows(self, step: int) -> list[Row]:
        """The examples of a step (from 0)."""
        size = self.task.hyperparameters.batch_size
        indices = step_indices(len(self.rows), batch_size=size, seed=self.task.seed, step=step)
        return [self.rows[i] for i in indices]

    def valid_batch(self, step: int) -> list[Row]:
        """The validation examples looked at after a step (from 0)."""
        size = min(self.task.hyperparameters.batch_size, len(self.valid_rows))
        indices = step_indices(len(self.valid_rows), batch_size=size, seed=self.task.seed, step=step)
        return [self.valid_rows[i] for i in indices]

    def set_rate(self, step: int) -> float:
        """Set the learning rate of a step (from 0) and return it."""
        schedule = self.task.local.get("schedule") or {}
        factor = rate_factor(
            step,
            total_steps=self.total_steps,
            kind=schedule.get("type", "linear"),
            warmup_share=schedule.get("warmup_share", 0.03),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * factor
        return self.rate * factor

    def first_progress(self) -> Progress:
        """Where a run starts that has no resume point."""
        asked = (self.task.local.get("runtime") or {}).get("micro_batch_tokens")
        return Progress(micro_batch_tokens=asked or MICRO_BATCH_TOKENS, setting=self.setting())

    def setting(self) -> dict[str, Any]:
        """What the last bits of the arithmetic depend on."""
        return {"threads": self.network.machine.threads, "torch": torch.__version__, "onednn": uses_onednn()}

    def save_model(self, folder: Path) -> Path:
        """Write the model as it stands, usable and durable."""
        with whole_folder(folder) as new:
            adapters.save_adapter(self.network.model, new, base=self.base.name, tune=self.options)
        return folder

    def facts(self) -> dict[str, Any]:
        """What the job's details show."""
        machine = self.network.machine
        parameters = [parameter for _, parameter in self.network.parameters()]
        return {
            "engine": "torch",
            "device": str(machine.device),
            "precision": machine.precision,
            "precision_reason": machine.precision_reason,
            "threads": machine.threads,
            "torch": torch.__version__,
            "weights_sha256": self.base.sha256,
            "n_parameters": self.network.model.num_parameters(exclude_embeddings=False)
            - (sum(p.numel() for p in parameters) if self.options["type"] == "lora" else 0),
            "n_trained_parameters": sum(p.numel() for p in parameters),
            "tune": dict(self.options),
            "learning_rate": self.rate,
            "trained_tokens_per_epoch": sum(row.n_tokens for row in self.rows),
            "loss_tokens_per_epoch": sum(w != 0 for row in self.rows for part in row.parts for w in part.weights),
            "packing": self.network.packing,
        }


def sequences(rows: list[Row]) -> list[Rendered]:
    """All sequences of some rows."""
    return [part for row in rows for part in row.parts]


def prepare(task: Task, *, base: ModelDir) -> Run:
    """Load the model, render the files, add what trains.

    Raises:
        JobError: The model or a file can't be used; the text names line and remedy.
    """
    machine = choose_machine(task.local.get("runtime") or {})
    torch.set_num_threads(machine.threads)
    torch.manual_seed(task.seed)
    template = Template.of(base.path)
    rows, valid_rows = _read(task, template, base.path)
    _check_evaluation(task, has_valid=bool(valid_rows))
    network, options = _load(task, base, machine)
    rate = resolve_rate(
        task.local,
        multiplier=task.hyperparameters.learning_rate_multiplier,
        n_parameters=network.model.num_parameters(),
    )
    decay = (task.local.get("schedule") or {}).get("weight_decay", 0.0)
    optimizer = torch.optim.AdamW(
        [parameter for _, parameter in network.parameters()], lr=rate, weight_decay=decay, fused=True
    )
    return Run(task, base, network, optimizer, rows, valid_rows, options, rate)


def context_tokens(model_dir: Path) -> int:
    """The longest sequence that the model takes."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(model_dir, local_files_only=True).get_text_config()
    return int(config.max_position_embeddings)


def _read(task: Task, template: Template, model_dir: Path) -> tuple[list[Row], list[Row]]:
    limit = context_tokens(model_dir)
    rows = read_rows(
        task.training_path, template=template, context_tokens=limit, method=task.method, param="training_file"
    )
    if not rows:
        raise JobError("invalid_training_file", "The training file has no examples.", param="training_file")
    if task.validation_path is None:
        return rows, []
    valid = read_rows(
        task.validation_path, template=template, context_tokens=limit, method=task.method, param="validation_file"
    )
    return rows, valid


def _check_evaluation(task: Task, *, has_valid: bool) -> None:
    evaluation = task.local.get("evaluation") or {}
    wanted = [key for key in ("early_stopping_patience", "keep_best") if evaluation.get(key)]
    if wanted and not has_valid:
        text = f"`{wanted[0]}` needs a validation file to go by; give one or leave the option out."
        raise JobError("missing_validation_file", text, param=f"local.evaluation.{wanted[0]}")


def _load(task: Task, base: ModelDir, machine: Machine) -> tuple[Network, Mapping[str, Any]]:
    """The network with what trains in it. A tuned model's own adapter goes on training."""
    network = load_network(base.path, machine)
    start = task.model.tuned_dir
    options = {**DEFAULT_TUNE, **(task.local.get("tune") or {})}
    if start is not None:
        options = adapters.read_adapter_config(start)
    tune(network, options, seed=task.seed)
    if start is not None:
        adapters.load_adapter(network.model, start)
    return network, options
