"""A run: everything that the loop works with, made from a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from local_backend.engine import NO_LIMIT_TOKENS, adapters
from local_backend.engine.checkpoint import Progress, save_resume_point, whole_folder
from local_backend.engine.device import Machine, choose_machine
from local_backend.engine.forecast.choice import Choice, budget_bytes, choose, demand_of, first_step
from local_backend.engine.forecast.size import size_of
from local_backend.engine.frozen import FrozenStates, frozen_blocks
from local_backend.engine.matmul import uses_onednn
from local_backend.engine.network import Network, load_network
from local_backend.engine.objective import Objective, Preference, Supervised
from local_backend.engine.rows import Row, read_rows, step_indices
from local_backend.engine.schedule import factor_at, resolve_rate
from local_backend.engine.template import Rendered, Template
from local_backend.engine.tuning import choose_weights, merge_adapters, save_whole
from local_backend.engine.vision.network import load_vision_network
from local_backend.engine.vision.template import VisionTemplate
from local_backend.engine.weights import ModelDir
from local_backend.task import JobError, Task

DEFAULT_BETA = 0.1
"""How strongly DPO holds on to the model that it started from; OpenAI's and TRL's default."""
DEFAULT_TUNE: Mapping[str, Any] = {"type": "lora"}


@dataclass(frozen=True)
class Run:
    """One job, loaded and rendered."""

    task: Task
    base: ModelDir
    template: Template
    network: Network
    objective: Objective
    optimizer: torch.optim.Optimizer
    rows: list[Row]
    valid_rows: list[Row]
    options: Mapping[str, Any]
    """How to tune: those asked for, or those of the adapter that the run starts from."""
    rate: float
    """Peak learning rate."""
    n_parameters: int
    """Of the base model."""
    saves_adapter: bool
    """Whether what it leaves is an adapter on the base model; else it is a whole model."""
    choice: Choice
    """How it is computed."""

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
        factor = factor_at(step, self.task.local, total_steps=self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * factor
        return self.rate * factor

    def first_progress(self) -> Progress:
        """Where a run starts that has no resume point."""
        return Progress(micro_batch_tokens=self.choice.micro_batch_tokens, setting=self.setting())

    def keep_frozen(self, between: Callable[[], None], *, max_tokens: int) -> None:
        """Compute once what lies below the lowest trained block, where there is enough of it and room on disk."""
        n_blocks = frozen_blocks(self.network.model) if self.network.is_packed else 0
        if n_blocks == 0:
            return
        everything = sequences([*self.rows, *self.valid_rows])
        states = FrozenStates(self.network.model, everything, n_blocks=n_blocks)
        folder = self.task.work_dir / "frozen"
        if not states.fits(folder):
            return
        packs = self.network.packs([[one] for one in everything], max_tokens=max_tokens)
        states.fill(folder, packs=packs, between=between)
        self.network.frozen = states

    def setting(self) -> dict[str, Any]:
        """What the last bits of the arithmetic depend on."""
        return {
            "threads": self.network.machine.threads,
            "torch": torch.__version__,
            "onednn": uses_onednn(),
            "weights": self.base.sha256[:12],
            "kept_blocks": self.network.frozen.n_blocks if self.network.frozen else 0,
        }

    def save_model(self, folder: Path) -> Path:
        """Write the model as it stands, usable and durable."""
        with whole_folder(folder) as new:
            if self.saves_adapter:
                adapters.save_adapter(self.network.model, new, base=self.base, tune=self.options)
            else:
                save_whole(self.network.model, new, tokenizer_from=self.base.path, beside=folder.parent)
        return folder

    def save_resume_point(self, progress: Progress) -> None:
        """Write what the run can go on from, after a step."""
        folder, parameters = self.task.work_dir / "resume", self.network.parameters()
        save_resume_point(folder, progress=progress, parameters=parameters, optimizer=self.optimizer)

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
            "n_parameters": self.n_parameters,
            "n_trained_parameters": sum(p.numel() for p in parameters),
            "tune": dict(self.options),
            "learning_rate": self.rate,
            "trained_tokens_per_epoch": sum(row.n_tokens for row in self.rows),
            "loss_tokens_per_epoch": sum(row.n_loss_tokens for row in self.rows),
            "packing": self.network.packing,
            "checkpointing": not self.network.keeps_blocks,
            "micro_batch_reason": self.choice.reason,
            "kept_frozen_bytes": self.network.frozen.n_bytes if self.network.frozen else 0,
            **self.network.notes(),
        }


def sequences(rows: list[Row]) -> list[Rendered]:
    """All sequences of some rows."""
    return [part for row in rows for part in row.parts]


def prepare(task: Task, *, base: ModelDir) -> Run:
    """Load the model, render the files, add what trains.

    Raises:
        JobError: The model or a file can't be used; the text names line and remedy.
    """
    machine = _machine(task)
    torch.set_num_threads(machine.threads)
    torch.manual_seed(task.seed)
    template = Template.of(base.path)
    rows, valid_rows = _read(task, template, base.path)
    _check_evaluation(task, has_valid=bool(valid_rows))
    network = _network(task, base, template, machine)
    n_parameters = network.model.num_parameters()
    options, saves_adapter = _choose_weights(task, network)
    choice = _choose_how(task, network, rows, valid_rows, saves_whole=not saves_adapter)
    rate = resolve_rate(
        task.local,
        multiplier=task.hyperparameters.learning_rate_multiplier,
        n_parameters=n_parameters,
        method=task.method,
    )
    decay = (task.local.get("schedule") or {}).get("weight_decay", 0.0)
    optimizer = torch.optim.AdamW(
        [parameter for _, parameter in network.parameters()], lr=rate, weight_decay=decay, fused=True
    )
    return Run(
        task,
        base,
        template,
        network,
        _objective(task, network),
        optimizer,
        rows,
        valid_rows,
        options,
        rate,
        n_parameters=n_parameters,
        saves_adapter=saves_adapter,
        choice=choice,
    )


def context_tokens(model_dir: Path) -> int:
    """The longest sequence that the model takes; recurrent ones name no limit."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(model_dir, local_files_only=True).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or NO_LIMIT_TOKENS)


def _machine(task: Task) -> Machine:
    machine = choose_machine(task.local.get("runtime") or {})
    if machine.dtype is torch.float32 or (task.local.get("tune") or DEFAULT_TUNE).get("type", "lora") == "lora":
        return machine
    return replace(machine, dtype=torch.float32, precision_reason="weights that train are fp32: bf16 loses small steps")


def _network(task: Task, base: ModelDir, template: Template, machine: Machine) -> Network:
    folder = _start_folder(task, base)
    if isinstance(template, VisionTemplate):
        return load_vision_network(folder, machine, template, task.local.get("tune") or DEFAULT_TUNE)
    return load_network(folder, machine)


def _choose_how(task: Task, network: Network, rows: list[Row], valid_rows: list[Row], *, saves_whole: bool) -> Choice:
    """Choose how many tokens to compute at once, and whether blocks are computed again in the backward pass."""
    size = size_of(network.model, saves_whole=saves_whole, is_packed=network.is_packed)
    everything = [*rows, *valid_rows]
    demand = demand_of(
        [rows[i] for i in first_step(len(rows), batch_size=task.hyperparameters.batch_size)],
        longest_tokens=max(row.n_tokens for row in everything),
        rendered_tokens=sum(row.n_tokens for row in everything),
        size=size,
        machine=network.machine,
    )
    budget = budget_bytes(network.machine.device, is_job=True)
    choice = choose(demand, task.local.get("runtime") or {}, budget_bytes=budget)
    if choice.checkpointing:
        network.recompute_blocks()
    return choice


def _objective(task: Task, network: Network) -> Objective:
    if task.method == "dpo":
        return Preference(network, beta=task.hyperparameters.beta or DEFAULT_BETA)
    return Supervised(network)


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


def _start_folder(task: Task, base: ModelDir) -> Path:
    """Where whole weights are read from: a tuned model that is no adapter, else the base model."""
    start = task.model.tuned_dir
    return base.path if start is None or _is_adapter(start) else start


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def _choose_weights(task: Task, network: Network) -> tuple[Mapping[str, Any], bool]:
    """Choose what trains; returns how, and whether the result is an adapter on the base model.

    A tuned model's own adapter goes on training. Other ways of tuning start from its merged weights.

    Raises:
        JobError: The model has no such layers, or the adapter to go on with is not as asked for.
    """
    options = {**DEFAULT_TUNE, **(task.local.get("tune") or {})}
    start = task.model.tuned_dir
    if start is None or not _is_adapter(start):
        choose_weights(network.model, options, seed=task.seed)
        return options, options["type"] == "lora" and start is None
    own = adapters.read_adapter_config(start)
    if options["type"] == "lora":
        adapters.check_same(own, options, network.model)
    adapters.add_adapters(network.model, own, seed=task.seed)
    adapters.load_adapter(network.model, start)
    if options["type"] == "lora":
        return own, True
    merge_adapters(network.model)
    choose_weights(network.model, options, seed=task.seed)
    return options, False
