"""The training loop of classifiers.

Shapes: B examples of a step, L labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from local_backend.engine.checkpoint import Progress, load_resume_point
from local_backend.engine.classify.augment import Augmentation
from local_backend.engine.classify.body import ImageBody
from local_backend.engine.classify.data import Row, one_hot, smoothed
from local_backend.engine.classify.features import KeptFeatures
from local_backend.engine.classify.image_states import LiveImages
from local_backend.engine.classify.kinds import Kind
from local_backend.engine.classify.metrics import Scores, calibration_error, fit_temperature, losses, macro, report
from local_backend.engine.classify.run import MICRO_BATCH_TOKENS, Run, prepare
from local_backend.engine.dropout import without_dropout
from local_backend.engine.pace import (
    Between,
    CancelledError,
    evaluation_of,
    final_model,
    is_over,
    is_resume_point_due,
    listener,
    note_best,
    valid_every,
)
from local_backend.engine.weights import ModelDir
from local_backend.task import JobError, Outcome, Recorder, Signal, StepReport, Task


@dataclass(frozen=True)
class Step:
    """What a step measured: weighted mean loss in nats, share of examples right."""

    loss: float
    accuracy: float


def train(task: Task, *, base: ModelDir, kind: Kind, recorder: Recorder) -> Outcome:
    """Train from the last resume point, or the start, to the end, a pause or a cancel.

    Raises:
        JobError: The data can't be used, or the run diverged.
    """
    progress = Progress()
    between = listener(recorder)
    try:
        run = prepare(task, base=base, kind=kind, between=between)
        found = load_resume_point(task.work_dir / "resume", parameters=run.parameters(), optimizer=run.optimizer)
        progress = found or Progress(setting=run.setting())
        recorder.started({**run.facts(), **_changes(run, progress)})
        return _loop(run, recorder, progress, between)
    except CancelledError:
        return Outcome(kind="cancelled", trained_tokens=progress.trained_tokens)


def _loop(run: Run, recorder: Recorder, progress: Progress, between: Between) -> Outcome:
    saved_at = time.monotonic()
    epoch, order = -1, []
    while progress.step < run.total_steps and not is_over(run.task, progress):
        started = time.monotonic()
        if progress.step // run.steps_per_epoch != epoch:
            epoch = progress.step // run.steps_per_epoch
            order = run.order(epoch)
            run.begin_epoch(epoch)
        first = progress.step % run.steps_per_epoch * run.task.hyperparameters.batch_size
        places = range(first, min(first + run.task.hyperparameters.batch_size, len(order)))
        rows = [run.data.train[order[i]] for i in places]
        rate = run.set_rates(progress.step)
        measured = _gradients(run, rows, epoch=epoch, places=places, between=between)
        norm = _clip(run, measured, progress.step + 1)
        run.optimizer.step()
        valid, full = _evaluate(run, progress.step + 1, between)

        progress.step += 1
        n_tokens = sum(row.n_tokens for row in rows)
        progress.trained_tokens += n_tokens
        extra = {"learning_rate": rate, "grad_norm": norm, "tokens": n_tokens, "seconds": time.monotonic() - started}
        signal = recorder.step(_report(run, progress.step, measured, valid, full, extra))
        if signal is Signal.CANCEL:
            raise CancelledError
        is_epoch_end = progress.step % run.steps_per_epoch == 0
        if is_epoch_end:
            _end_epoch(run, progress, recorder, measured, full)
        if signal is Signal.PAUSE or is_resume_point_due(saved_at, is_epoch_end=is_epoch_end):
            run.save_resume_point(progress)
            saved_at = time.monotonic()
        if signal is Signal.PAUSE and progress.step < run.total_steps:
            snapshot = run.save_model(run.task.model_dir(progress.step))
            return Outcome(kind="paused", trained_tokens=progress.trained_tokens, model_dir=snapshot)

    final = final_model(run.task, progress, recorder, save=run.save_model)
    return Outcome(kind="succeeded", trained_tokens=progress.trained_tokens, model_dir=final)


def _gradients(run: Run, rows: Sequence[Row], *, epoch: int, places: Sequence[int], between: Between) -> Step:
    """Add the gradient of the weighted mean loss, a micro-batch after the other."""
    run.optimizer.zero_grad(set_to_none=True)
    labels = run.data.labels
    targets_BL = smoothed(
        one_hot(rows, len(labels.names)), smoothing=float(run.options["label_smoothing"]), is_multi=labels.is_multi
    )
    features_of, targets_BL = _inputs(run, rows, targets_BL, epoch=epoch, places=places)
    weights_B = torch.tensor([row.weight for row in rows])
    total = float(weights_B.sum())
    loss = hits = 0.0
    for batch in _micro_batches(run, rows):
        between()
        logits_BL = run.classifier.logits(features_of(batch))
        losses_B = losses(logits_BL, targets_BL[batch].to(logits_BL.dtype), is_multi=labels.is_multi)
        part = (losses_B * weights_B[batch].to(losses_B.dtype)).sum() / total
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
        hits += float(
            (_right(logits_BL.detach(), targets_BL[batch], is_multi=labels.is_multi) * weights_B[batch]).sum()
        )
    return Step(loss, hits / total)


def _inputs(
    run: Run, rows: Sequence[Row], targets_BL: torch.Tensor, *, epoch: int, places: Sequence[int]
) -> tuple[Callable[[list[int]], torch.Tensor], torch.Tensor]:
    """Return what gives the features of a step's rows by their positions, and the targets: changed copies of images."""
    augmentation = Augmentation.of(run.options["augment"])
    body = run.classifier.body
    seen = run.features
    if augmentation is None or not isinstance(body, ImageBody) or not isinstance(seen, LiveImages):
        return lambda batch: run.features([rows[i] for i in batch]), targets_BL
    pixels_BCHW, mixed_BL = augmentation.apply(
        seen.pixels(rows), targets_BL, seed=run.task.seed, epoch=epoch, positions=list(places)
    )
    return lambda batch: body.pixel_features(pixels_BCHW[batch]), mixed_BL


def _micro_batches(run: Run, rows: Sequence[Row]) -> list[list[int]]:
    asked = (run.task.local.get("runtime") or {}).get("micro_batch_tokens")
    if isinstance(run.features, KeptFeatures):
        return [list(range(len(rows)))]
    inputs = [row.input for row in rows]
    return list(run.classifier.batches(inputs, max_tokens=asked or MICRO_BATCH_TOKENS))


def _right(logits_BL: torch.Tensor, targets_BL: torch.Tensor, *, is_multi: bool) -> torch.Tensor:
    if is_multi:
        return ((logits_BL > 0) == (targets_BL > 0.5)).all(1).float()  # noqa: PLR2004 - half of one
    return (logits_BL.argmax(1) == targets_BL.argmax(1)).float()


def _clip(run: Run, measured: Step, step: int) -> float:
    """Bound the gradient's norm; stop a run that diverged."""
    limit = (run.task.local.get("schedule") or {}).get("max_grad_norm", 1.0)
    parameters = [parameter for _, parameter in run.parameters() if parameter.grad is not None]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True))
    if math.isfinite(norm) and math.isfinite(measured.loss):
        return norm
    text = (
        f"Training diverged at step {step}: loss {measured.loss:.3g}, gradient norm {norm:.3g}. "
        "Lower the learning rate or look at the examples of this step."
    )
    raise JobError("training_diverged", text, param="local.learning_rate")


def _evaluate(run: Run, step: int, between: Between) -> tuple[Scores | None, Scores | None]:
    """A validation batch and the whole validation data, where a step (from 1) asks for them."""
    if not run.data.valid:
        return None, None
    every = valid_every(evaluation_of(run.task).get("every_steps"), steps_per_epoch=run.steps_per_epoch)
    batch = score(run, run.valid_batch(step // every - 1), between) if step % every == 0 else None
    full = score(run, run.data.valid, between) if step % run.steps_per_epoch == 0 else None
    return batch, full


def score(run: Run, rows: Sequence[Row], between: Between) -> Scores:
    """What the classifier says of some rows, without dropout."""
    logits_NL = torch.zeros(len(rows), len(run.data.labels.names))
    with without_dropout(run.classifier.body.model), torch.no_grad():
        for batch in run.classifier.batches([row.input for row in rows]):
            between()
            logits_NL[batch] = run.classifier.logits(run.features([rows[i] for i in batch])).float()
    return Scores(logits_NL, one_hot(rows, logits_NL.shape[1]), run.data.labels.is_multi)


def _report(
    run: Run, step: int, measured: Step, valid: Scores | None, full: Scores | None, extra: dict[str, float]
) -> StepReport:
    if full is not None:
        found = {"full_valid_macro_f1": macro(full)["macro_f1"], "full_valid_ece": calibration_error(full)}
        extra = {**extra, "full_valid_accuracy": full.accuracy, **found}
    return StepReport(
        step=step,
        total_steps=run.total_steps,
        train_loss=measured.loss,
        train_mean_token_accuracy=measured.accuracy,
        valid_loss=valid.loss if valid else None,
        valid_mean_token_accuracy=valid.accuracy if valid else None,
        full_valid_loss=full.loss if full else None,
        full_valid_mean_token_accuracy=full.accuracy if full else None,
        extra=extra,
    )


def _end_epoch(run: Run, progress: Progress, recorder: Recorder, measured: Step, full: Scores | None) -> None:
    """Keep the model of the epoch, with probabilities that the validation data bear out."""
    metrics: dict[str, float] = {"train_loss": measured.loss, "train_mean_token_accuracy": measured.accuracy}
    if full is not None:
        if run.options["calibrate"]:
            run.classifier.temperature = fit_temperature(full)
        note_best(progress, full.loss)
        metrics |= {"full_valid_loss": full.loss, "full_valid_mean_token_accuracy": full.accuracy}
    folder = run.save_model(run.task.model_dir(progress.step))
    recorder.checkpoint(step=progress.step, model_dir=folder, metrics=metrics, best_step=progress.best_step)
    if full is not None and (progress.best_step == progress.step or not evaluation_of(run.task).get("keep_best")):
        names = run.data.labels.names
        said = report(full, names, temperature=run.classifier.temperature)
        recorder.started({"classification": {"step": progress.step, **said}})


def _changes(run: Run, progress: Progress) -> dict[str, Any]:
    """What is said of a run that goes on where the arithmetic differs."""
    now = run.setting()
    changed = [f"{key} was {old} and is {now.get(key)}" for key, old in progress.setting.items() if now.get(key) != old]
    if not changed:
        return {}
    return {"resume_note": f"The last bits may differ from an uninterrupted run: {', '.join(changed)}."}
