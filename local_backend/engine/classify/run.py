"""A classifier's job: everything that its loop works with, made from a task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from local_backend.engine.checkpoint import Progress, save_resume_point, whole_folder
from local_backend.engine.classify import saving
from local_backend.engine.classify.augment import Augmentation
from local_backend.engine.classify.body import load_body
from local_backend.engine.classify.classifier import Classifier
from local_backend.engine.classify.data import Data, Row, one_hot, read_data
from local_backend.engine.classify.features import Features, KeptFeatures, choose_features
from local_backend.engine.classify.kinds import Kind
from local_backend.engine.classify.labels import epoch_order, options_of
from local_backend.engine.classify.layers import Part, choose_parts, trained_parts
from local_backend.engine.classify.routing import classifier_dir
from local_backend.engine.classify.warm import fit_last_layer
from local_backend.engine.device import Machine, choose_machine
from local_backend.engine.matmul import uses_onednn
from local_backend.engine.pace import Between
from local_backend.engine.schedule import factor_at
from local_backend.engine.weights import ModelDir
from local_backend.task import JobError, Task

STANDARDISED_ON = 512
"""Examples from whose features middle and spread are taken where the body trains."""
MICRO_BATCH_TOKENS = 2048
"""Tokens that a backward pass is kept for; more takes memory and no less time."""


@dataclass(frozen=True)
class Run:
    """One job, loaded and read."""

    task: Task
    base: ModelDir
    machine: Machine
    classifier: Classifier
    data: Data
    parts: list[Part]
    options: Mapping[str, Any]
    """`local.classify`, with defaults."""
    features: Features
    optimizer: torch.optim.Optimizer

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch; the last one takes what is left."""
        return -(-len(self.data.train) // self.task.hyperparameters.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.task.hyperparameters.n_epochs

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """All weights that train at some time, by name."""
        return [item for part in self.parts for item in part.parameters]

    def order(self, epoch: int) -> list[int]:
        """Which examples an epoch (from 0) visits, in order."""
        targets = [row.targets for row in self.data.train]
        return epoch_order(targets, balance=self.options["balance"], seed=self.task.seed, epoch=epoch)

    def valid_batch(self, step: int) -> list[Row]:
        """The validation examples looked at after a step (from 0)."""
        size = min(self.task.hyperparameters.batch_size, len(self.data.valid))
        start = step * size
        return [self.data.valid[(start + i) % len(self.data.valid)] for i in range(size)]

    def begin_epoch(self, epoch: int) -> None:
        """Let the parts train whose turn it is."""
        n_epochs = self.task.hyperparameters.n_epochs
        chosen = trained_parts(self.parts, unfreeze=self.options["unfreeze"], epoch=epoch, n_epochs=n_epochs)
        for part in self.parts:
            for _, parameter in part.parameters:
                parameter.requires_grad = part in chosen

    def set_rates(self, step: int) -> float:
        """Set the learning rates of a step (from 0) and return the highest."""
        factor = factor_at(step, self.task.local, total_steps=self.total_steps)
        for group, part in zip(self.optimizer.param_groups, self.parts, strict=True):
            group["lr"] = part.rate * factor
        return max(part.rate for part in self.parts) * factor

    def setting(self) -> dict[str, Any]:
        """What the last bits of the arithmetic depend on."""
        return {"threads": self.machine.threads, "torch": torch.__version__, "onednn": uses_onednn()}

    def save_model(self, folder: Path) -> Path:
        """Write the classifier as it stands, usable and durable."""
        with whole_folder(folder) as new:
            saving.save(self.classifier, new, base=self.base.name, same_body=self._same_body(folder.parent))
        return folder

    def _same_body(self, folder: Path) -> Path | None:
        """An earlier checkpoint of a body that does not train: its file is linked instead of written again."""
        if len(self.parts) > 1:
            return None
        return next((path for path in sorted(folder.glob("step-*")) if (path / "model.safetensors").is_file()), None)

    def save_resume_point(self, progress: Progress) -> None:
        """Write what the run can go on from, after a step."""
        folder = self.task.work_dir / "resume"
        save_resume_point(folder, progress=progress, parameters=self.parameters(), optimizer=self.optimizer)

    def facts(self) -> dict[str, Any]:
        """What the job's details show."""
        machine, model = self.machine, self.classifier.body.model
        n_trained = sum(parameter.numel() for _, parameter in self.parameters())
        return {
            "engine": "torch",
            "task": "classify",
            "device": str(machine.device),
            "precision": machine.precision,
            "precision_reason": machine.precision_reason,
            "threads": machine.threads,
            "torch": torch.__version__,
            "weights_sha256": self.base.sha256,
            "n_parameters": sum(p.numel() for p in model.parameters())
            + sum(p.numel() for p in self.classifier.head.parameters()),
            "n_trained_parameters": n_trained,
            "tune": tune_of(self.task),
            "classify": dict(self.options),
            "labels": list(self.data.labels.names),
            "pooling": self.classifier.body.kind.pooling,
            "learning_rate": max(part.rate for part in self.parts[-1:]),
            "last_layer_learning_rate": self.parts[0].rate,
            "trained_tokens_per_epoch": sum(row.n_tokens for row in self.data.train),
            "loss_tokens_per_epoch": len(self.data.train),
            "packing": self.classifier.body.way,
            "kept_frozen_bytes": self.features.n_bytes,
        }


def prepare(task: Task, *, base: ModelDir, kind: Kind, between: Between) -> Run:
    """Load the model, read the files, compute what stays the same.

    Raises:
        JobError: The model or a file can't be used; the text names line and remedy.
    """
    machine = machine_of(task)
    torch.set_num_threads(machine.threads)
    torch.manual_seed(task.seed)
    options = options_of(task.local)
    start = classifier_dir(task.model, base.path)
    body = load_body(start or base.path, kind, machine=machine)
    known = saving.read_labels(start) if start else None
    data = read_data(task, body.reader, options=dict(options), known=known)
    _check(task, data, options)
    classifier = Classifier(body, data.labels, has_bias=not kind.is_causal)
    parts = choose_parts(
        classifier,
        tune_of(task),
        rate=task.local.get("learning_rate"),
        multiplier=task.hyperparameters.learning_rate_multiplier,
        decay=float(options["layer_decay"]),
        seed=task.seed,
    )
    features = choose_features(
        classifier, [*data.train, *data.valid], is_changing=_augmentation(options) is not None, between=between
    )
    is_warm = bool(options["warm_start"]) and len(parts) > 1 and start is None
    _start_last_layer(features, classifier, data, is_warm=is_warm)
    if start is not None:
        saving.restore_last_layer(classifier, start)
    return Run(task, base, machine, classifier, data, parts, options, features, _optimizer(task, parts))


def _augmentation(options: Mapping[str, Any]) -> Augmentation | None:
    return Augmentation.of(options["augment"])


def _start_last_layer(features: Features, classifier: Classifier, data: Data, *, is_warm: bool) -> None:
    """Standardise what the last layer reads, by the training examples, and let it fit them if it is to start warm."""
    rows = data.train
    if not is_warm and not isinstance(features, KeptFeatures):
        rows = rows[:: max(1, len(rows) // STANDARDISED_ON)]
    features_NW = torch.zeros(len(rows), classifier.body.width)
    with torch.no_grad():
        for batch in classifier.batches([row.input for row in rows]):
            features_NW[batch] = features([rows[i] for i in batch]).float().cpu()
    classifier.standardise(features_NW)
    if is_warm:
        weights_N = torch.tensor([row.weight for row in rows])
        fit_last_layer(classifier, features_NW, one_hot(rows, len(data.labels.names)), weights_N)


def _optimizer(task: Task, parts: Sequence[Part]) -> torch.optim.Optimizer:
    decay = (task.local.get("schedule") or {}).get("weight_decay", 0.0)
    groups = [{"params": [p for _, p in part.parameters], "lr": part.rate} for part in parts]
    return torch.optim.AdamW(groups, weight_decay=decay, fused=True)


def tune_of(task: Task) -> dict[str, Any]:
    """The way of tuning that a task asks for."""
    return {"type": "lora", **(task.local.get("tune") or {})}


def machine_of(task: Task) -> Machine:
    """Where a task is computed: in fp32, which weights that train must have.

    A run that goes on takes as many threads as it began with.
    """
    runtime = {**(task.local.get("runtime") or {}), "precision": "fp32"}
    for state in (task.work_dir / "resume").glob("step-*/state.json"):
        runtime["threads"] = json.loads(state.read_text(encoding="utf-8"))["progress"]["setting"].get("threads")
    return replace(choose_machine(runtime), precision_reason="weights that train are fp32: bf16 loses small steps")


def _check(task: Task, data: Data, options: Mapping[str, Any]) -> None:
    evaluation = task.local.get("evaluation") or {}
    wanted = [key for key in ("early_stopping_patience", "keep_best") if evaluation.get(key)]
    if wanted and not data.valid:
        text = f"`{wanted[0]}` needs validation data: give a file, or set local.classify.valid_share."
        raise JobError("missing_validation_file", text, param=f"local.evaluation.{wanted[0]}")
    if options["augment"] and data.train and isinstance(data.train[0].input, list):
        text = "Augmentation is for images, and this model reads text. Leave it out."
        raise JobError("invalid_value", text, param="local.classify.augment")
