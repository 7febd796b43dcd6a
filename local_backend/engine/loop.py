"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from local_backend.engine.checkpoint import Progress, load_resume_point
from local_backend.engine.objective import Measured, Preference
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
from local_backend.engine.rows import Row
from local_backend.engine.samples import sample_answers
from local_backend.engine.training import Run
from local_backend.task import JobError, Outcome, Recorder, Signal, StepReport

MIN_MICRO_BATCH_TOKENS = 64
_Computed = TypeVar("_Computed")


def train(run: Run, recorder: Recorder) -> Outcome:
    """Train from the last resume point, or the start, to the end, a pause or a cancel.

    Raises:
        JobError: The run diverged, ran out of memory or disk, or trains nothing.
    """
    progress = run.first_progress()
    between = listener(recorder)
    try:
        _within_memory(progress, lambda limit: run.keep_frozen(between, max_tokens=limit))
        _within_memory(progress, lambda limit: _set_reference(run, between, max_tokens=limit))
        folder, parameters = run.task.work_dir / "resume", run.network.parameters()
        found = load_resume_point(folder, parameters=parameters, optimizer=run.optimizer)
        progress = found or replace(progress, setting=run.setting())
        facts = {**run.facts(), **_restore_setting(run, progress)}
        recorder.started({**facts, "micro_batch_tokens": progress.micro_batch_tokens})
        return _loop(run, recorder, progress, between)
    except CancelledError:
        return Outcome(kind="cancelled", trained_tokens=progress.trained_tokens)


def _loop(run: Run, recorder: Recorder, progress: Progress, between: Between) -> Outcome:
    saved_at = time.monotonic()
    while progress.step < run.total_steps and not is_over(run.task, progress):
        started = time.monotonic()
        rows = run.step_rows(progress.step)
        rate = run.set_rate(progress.step)
        sums = _gradients(run, rows, progress, between)
        grad_norm = _clip(run, sums, progress.step + 1)
        run.optimizer.step()
        valid, full_valid = _evaluate(run, progress, between)

        progress.step += 1
        n_tokens = sum(row.n_tokens for row in rows)
        progress.trained_tokens += n_tokens
        seconds = time.monotonic() - started
        report = StepReport(
            step=progress.step,
            total_steps=run.total_steps,
            train_loss=sums.loss,
            train_mean_token_accuracy=sums.accuracy,
            valid_loss=valid.loss if valid else None,
            valid_mean_token_accuracy=valid.accuracy if valid else None,
            full_valid_loss=full_valid.loss if full_valid else None,
            full_valid_mean_token_accuracy=full_valid.accuracy if full_valid else None,
            extra={"learning_rate": rate, "grad_norm": grad_norm, "tokens": n_tokens, "seconds": seconds, **sums.extra},
        )
        signal = recorder.step(report)
        if signal is Signal.CANCEL:
            raise CancelledError
        is_epoch_end = progress.step % run.steps_per_epoch == 0
        if is_epoch_end:
            if full_valid is not None:
                note_best(progress, full_valid.loss)
            _save_checkpoint(run, progress, recorder, report)
        if signal is Signal.PAUSE or is_resume_point_due(saved_at, is_epoch_end=is_epoch_end):
            run.save_resume_point(progress)
            saved_at = time.monotonic()
        if signal is Signal.PAUSE and progress.step < run.total_steps:
            snapshot = run.save_model(run.task.model_dir(progress.step))
            return Outcome(kind="paused", trained_tokens=progress.trained_tokens, model_dir=snapshot)
        if is_epoch_end:
            _sample(run, progress, recorder, between)

    final = final_model(run.task, progress, recorder, save=run.save_model)
    return Outcome(kind="succeeded", trained_tokens=progress.trained_tokens, model_dir=final)


def _restore_setting(run: Run, progress: Progress) -> dict[str, object]:
    """Compute as the resume point did, to the last bit, or say what has changed since."""
    weights = run.setting()["weights"]
    if progress.setting.get("weights", weights) != weights:
        text = "The base model's weights have changed since the job began, so it can't go on. Start the job anew."
        raise JobError("base_model_changed", text, "model")
    threads = progress.setting["threads"]
    torch.set_num_threads(threads)
    now = run.setting()
    changed = {key: now.get(key) for key, was in progress.setting.items() if now.get(key) != was}
    changed.pop("threads", None)
    if not changed:
        return {"threads": threads}
    what = ", ".join(f"{key} was {progress.setting.get(key)} and is {value}" for key, value in changed.items())
    return {"threads": threads, "resume_note": f"The last bits may differ from an uninterrupted run: {what}."}


def _set_reference(run: Run, between: Between, *, max_tokens: int) -> None:
    """DPO measures against the model as it stands before the first step, so before a resume point is loaded."""
    if isinstance(run.objective, Preference):
        run.objective.set_reference(
            [*run.rows, *run.valid_rows],
            file=run.task.work_dir / "reference",
            max_tokens=max_tokens,
            between=between,
        )


def _gradients(run: Run, rows: list[Row], progress: Progress, between: Between) -> Measured:
    """Compute a step's gradients."""

    def compute(limit: int) -> Measured:
        run.network.clear_gradients()  # of what was computed before memory ran out
        return run.objective.train(rows, max_tokens=limit, between=between)

    return _within_memory(progress, compute)


def _within_memory(progress: Progress, compute: Callable[[int], _Computed]) -> _Computed:
    """Compute with so many tokens at once as progress says; where memory runs out, again with half, from there on."""
    while True:
        try:
            return compute(progress.micro_batch_tokens)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if progress.micro_batch_tokens <= MIN_MICRO_BATCH_TOKENS:
                text = (
                    "Memory does not suffice even for one example at a time. Use shorter examples or a smaller model."
                )
                raise JobError("out_of_memory", text) from error
        progress.micro_batch_tokens //= 2


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _clip(run: Run, sums: Measured, step: int) -> float:
    """Bound the gradient's norm; stop a run that diverged or trains nothing."""
    limit = (run.task.local.get("schedule") or {}).get("max_grad_norm", 1.0)
    parameters = [parameter for _, parameter in run.network.parameters()]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = torch.nn.utils.get_total_norm(gradients, foreach=True)
    norm = float(total)
    if not math.isfinite(norm) or not math.isfinite(sums.loss):
        text = (
            f"Training diverged at step {step}: loss {sums.loss:.3g}, gradient norm {norm:.3g}. "
            f"Lower the learning rate (it was {run.rate:.3g}) or look at the examples of this step."
        )
        raise JobError("training_diverged", text, param="local.learning_rate")
    if norm == 0.0 and step == 1:
        raise JobError("nothing_trained", "The first step gave no gradient: nothing of the model would be trained.")
    if norm > limit:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, total, foreach=True)
    return norm


def _evaluate(run: Run, progress: Progress, between: Between) -> tuple[Measured | None, Measured | None]:
    """The validation batch and the whole validation file, where the step after `progress` asks for them."""
    if not run.valid_rows:
        return None, None
    step = progress.step + 1
    every = valid_every(evaluation_of(run.task).get("every_steps"), steps_per_epoch=run.steps_per_epoch)
    is_due, is_epoch_end = step % every == 0, step % run.steps_per_epoch == 0
    batch = _score(run, run.valid_batch(step // every - 1), progress, between) if is_due else None
    full = _score(run, run.valid_rows, progress, between) if is_epoch_end else None
    return batch, full


def _score(run: Run, rows: list[Row], progress: Progress, between: Between) -> Measured:
    return _within_memory(progress, lambda limit: run.objective.score(rows, max_tokens=limit, between=between))


def _sample(run: Run, progress: Progress, recorder: Recorder, between: Between) -> None:
    """Show what the model says by now in the job's details; training goes on without where memory runs out."""
    n = evaluation_of(run.task).get("samples") or 0
    if not n or not run.valid_rows:
        return
    try:
        samples = sample_answers(run.network, run.template, run.valid_rows[:n], between=between)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        text = f"The answers after step {progress.step} are left out: memory ran out. Training goes on without them."
        recorder.started({"samples_note": text})
        return
    recorder.started({"samples": {"step": progress.step, "answers": samples}})


def _save_checkpoint(run: Run, progress: Progress, recorder: Recorder, report: StepReport) -> None:
    folder = run.save_model(run.task.model_dir(progress.step))
    names = ("train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy")
    metrics = {name: getattr(report, name) for name in (*names, "full_valid_loss", "full_valid_mean_token_accuracy")}
    known = {name: value for name, value in metrics.items() if value is not None}
    recorder.checkpoint(step=progress.step, model_dir=folder, metrics=known, best_step=progress.best_step)
