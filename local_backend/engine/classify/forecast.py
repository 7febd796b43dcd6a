"""What a classifier's job would take: its files are read, and the model is timed on some of its examples."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from local_backend.engine.classify.body import ImageBody, TextBody, load_body
from local_backend.engine.classify.classifier import Classifier
from local_backend.engine.classify.data import Data, Row, read_data
from local_backend.engine.classify.findings import notes_of
from local_backend.engine.classify.kinds import Kind
from local_backend.engine.classify.labels import options_of
from local_backend.engine.classify.layers import choose_parts
from local_backend.engine.classify.routing import classifier_dir
from local_backend.engine.classify.run import machine_of, tune_of
from local_backend.engine.classify.saving import read_labels
from local_backend.engine.pace import VALID_BATCHES_PER_EPOCH
from local_backend.engine.weights import ModelDir
from local_backend.task import Forecast, JobError, Task, UserError

START_S = 5.0
"""The runner, torch and the model's weights, before the first step."""
RECORD_S = 0.006
"""A step's event is safe on the disk."""
HEAD_STEP_S = 0.002
"""A step of a last layer on features that are kept."""
WARM_S_PER_EXAMPLE = 4e-4
"""Fitting a new last layer to all examples, before the body trains."""
CHECKPOINT_S_PER_BYTE = 4e-9
PROCESS_BYTES = 450 << 20
"""What Python, torch and transformers take before any weights."""
TIMED_ROWS = 32
TOKEN_BYTES = 24
"""Numbers kept of each token, block and unit of width for the backward pass, times their size."""


@dataclass(frozen=True)
class _Rates:
    """Seconds a token (or piece of an image)."""

    forward: float
    both: float
    """Forward and backward; 0 where the body does not train."""


def forecast(task: Task, *, base: ModelDir, kind: Kind) -> Forecast:
    """Read the files, time the model on a few examples, and sum up.

    Raises:
        UserError: A file or the model can't be used; the text names line and remedy.
    """
    try:
        return _forecast(task, base, kind)
    except JobError as error:
        raise UserError(error.message, param=error.param, code=error.code) from error


def _forecast(task: Task, base: ModelDir, kind: Kind) -> Forecast:
    machine = machine_of(task)
    torch.set_num_threads(machine.threads)
    start = classifier_dir(task.model, base.path)
    body = load_body(start or base.path, kind, machine=machine)
    known = read_labels(start) if start else None
    options = options_of(task.local)
    data = read_data(task, body.reader, options=options, known=known)
    classifier = Classifier(body, data.labels, has_bias=not kind.is_causal)
    rate, multiplier = task.local.get("learning_rate"), task.hyperparameters.learning_rate_multiplier
    parts = choose_parts(classifier, tune_of(task), rate=rate, multiplier=multiplier, decay=1.0, seed=task.seed)
    n_trained = sum(parameter.numel() for part in parts for _, parameter in part.parameters)
    rates = _timed(classifier, data.train, trains=len(parts) > 1)
    is_kept = len(parts) == 1 and not options["augment"]
    time_parts = _time(task, data, rates, n_trained=n_trained, is_kept=is_kept)
    memory = _memory(body, data, n_trained=n_trained, trains_body=len(parts) > 1)
    return Forecast(
        n_examples=len(data.train),
        tokens_per_epoch=sum(row.n_tokens for row in data.train),
        loss_tokens_per_epoch=len(data.train),
        longest_example_tokens=max(row.n_tokens for row in data.train),
        context_tokens=kind.context_tokens or max(row.n_tokens for row in data.train),
        time_s=sum(time_parts.values()),
        memory_bytes=sum(memory.values()),
        notes=[*_notes(kind, data, is_kept=is_kept), *notes_of(task.training_path, body.reader)],
        choices={
            "task": "classify",
            "tune": tune_of(task),
            "device": str(machine.device),
            "precision": machine.precision,
            "threads": machine.threads,
            "labels": len(data.labels.names),
            "pooling": kind.pooling,
            "learning_rate": parts[-1].rate,
        },
        memory=memory,
        time=time_parts,
    )


def _timed(classifier: Classifier, rows: Sequence[Row], *, trains: bool) -> _Rates:
    """Seconds a token, by some examples spread over the file; the first pass is a rehearsal."""
    some = rows[:: max(1, len(rows) // TIMED_ROWS)][:TIMED_ROWS]
    inputs = [row.input for row in some]
    n_tokens = sum(row.n_tokens for row in some)
    seconds = {False: 0.0, True: 0.0}
    for with_backward in (False, True) if trains else (False,):
        for _ in range(2):
            started = time.perf_counter()
            with torch.set_grad_enabled(with_backward):
                features_BW = classifier.body.features(inputs)
            if with_backward:
                features_BW.sum().backward()  # type: ignore[no-untyped-call]
            seconds[with_backward] = time.perf_counter() - started
    return _Rates(seconds[False] / n_tokens, seconds[True] / n_tokens)


def _time(task: Task, data: Data, rates: _Rates, *, n_trained: int, is_kept: bool) -> dict[str, float]:
    """Seconds of a job, part by part."""
    n_epochs, size = task.hyperparameters.n_epochs, task.hyperparameters.batch_size
    n_steps = n_epochs * -(-len(data.train) // size)
    train, valid = (sum(row.n_tokens for row in rows) for rows in (data.train, data.valid))
    looked_at = n_epochs * (valid + VALID_BATCHES_PER_EPOCH * size * valid / max(1, len(data.valid)))
    if is_kept:
        frozen_s, steps_s, evaluation_s = rates.forward * (train + valid), n_steps * HEAD_STEP_S, 0.0
    else:
        is_warm = bool(options_of(task.local)["warm_start"])
        frozen_s = (rates.forward * train + WARM_S_PER_EXAMPLE * len(data.train)) if is_warm else 0.0
        steps_s = n_epochs * (rates.both or rates.forward) * train + 4e-9 * n_trained * n_steps
        evaluation_s = rates.forward * looked_at
    checkpoints_s = n_epochs * (0.1 + CHECKPOINT_S_PER_BYTE * 4 * n_trained)
    return {
        "start": START_S,
        "frozen": frozen_s,
        "steps": steps_s + RECORD_S * n_steps,
        "evaluation": evaluation_s,
        "checkpoints": checkpoints_s,
    }


def _memory(body: TextBody | ImageBody, data: Data, *, n_trained: int, trains_body: bool) -> dict[str, int]:
    """Bytes at the worst moment, term by term."""
    weights = sum(parameter.numel() * parameter.itemsize for parameter in body.model.parameters())
    config: Any = body.model.config
    width, blocks = int(getattr(config, "hidden_size", body.width)), int(getattr(config, "num_hidden_layers", 12))
    tokens = min(2048, sum(row.n_tokens for row in data.train[:32]))
    kept = 4 * TOKEN_BYTES * tokens * width * (blocks if trains_body else 1)
    return {
        "process": PROCESS_BYTES,
        "weights": weights,
        "training": 12 * n_trained,
        "activations": kept,
        "features": 4 * body.width * (len(data.train) + len(data.valid)),
    }


def _notes(kind: Kind, data: Data, *, is_kept: bool) -> list[str]:
    what = "any number of labels each" if data.labels.is_multi else "one label each"
    notes = [f"A classifier of {kind.modality}s: {len(data.labels.names)} labels, {what}, pooled by {kind.pooling}."]
    if is_kept:
        notes.append("Only the last layer trains: what it reads is computed once for all epochs.")
    if not data.valid:
        notes.append("Without validation data probabilities are not calibrated (local.classify.valid_share).")
    return notes
