"""What every training loop does between its steps: hear of a cancel, look at validation data, keep, stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local_backend.engine.checkpoint import Progress
from local_backend.engine.memory import give_back_unused
from local_backend.task import Recorder, Signal, Task

Between = Callable[[], None]
"""Called between the parts of a step; raises CancelledError when the user has cancelled."""

RESUME_EVERY_S, RESUME_AT_EPOCHS_S = 45.0, 15.0
"""A crash loses at most the steps since the last resume point; at least one a minute is promised. The end of an epoch
is a good moment for one, unless the last is young: it takes as long as some steps."""
SIGNAL_EVERY_S, GIVE_BACK_EVERY_S = 1.0, 3.0
VALID_BATCHES_PER_EPOCH = 4
"""Validation batches an epoch when nobody chooses, but no more than one every ten steps."""


class CancelledError(Exception):
    """The user cancelled in the middle of a step."""


def listener(recorder: Recorder) -> Between:
    """Return what is called between the parts of a step.

    It hears of a cancel within about a second, and gives memory back that earlier parts have left unused.
    """
    asked_at = given_at = time.monotonic()

    def listen() -> None:
        nonlocal asked_at, given_at
        now = time.monotonic()
        if now - given_at > GIVE_BACK_EVERY_S:
            given_at = now
            give_back_unused()
        if now - asked_at > SIGNAL_EVERY_S:
            asked_at = now
            if recorder.signal() is Signal.CANCEL:
                raise CancelledError

    return listen


def is_resume_point_due(saved_at: float, *, is_epoch_end: bool) -> bool:
    """Whether so much time has passed since the last resume point (by the monotonic clock) that a new one is due."""
    limit_s = min(RESUME_EVERY_S, RESUME_AT_EPOCHS_S if is_epoch_end else RESUME_EVERY_S)
    return time.monotonic() - saved_at > limit_s


def valid_every(asked: int | None, *, steps_per_epoch: int) -> int:
    """Steps between validation batches: what was asked for, else some an epoch."""
    return asked or min(10, max(1, steps_per_epoch // VALID_BATCHES_PER_EPOCH))


def evaluation_of(task: Task) -> Mapping[str, Any]:
    """The task's `evaluation` options."""
    found: Mapping[str, Any] = task.local.get("evaluation") or {}
    return found


def note_best(progress: Progress, loss: float) -> None:
    """Remember the epoch with the lowest validation loss, and how many have passed since."""
    if progress.best_loss is None or loss < progress.best_loss:
        progress.best_loss, progress.best_step, progress.bad_epochs = loss, progress.step, 0
    else:
        progress.bad_epochs += 1


def is_over(task: Task, progress: Progress) -> bool:
    """Whether validation has not got better for as many epochs as the task has patience."""
    patience = evaluation_of(task).get("early_stopping_patience")
    return patience is not None and progress.bad_epochs >= patience


def final_model(task: Task, progress: Progress, recorder: Recorder, *, save: Callable[[Path], Path]) -> Path:
    """Return the folder of the model that a run ends with: of its last step, or of the best epoch where asked for.

    Checkpoints of a job that failed can be deleted before it goes on: then it ends with its last step, and says so.

    Args:
        task: The job.
        progress: Where it has come to.
        recorder: Told if the best epoch's model is gone.
        save: Writes the model as it stands into a folder.
    """
    last = task.model_dir(progress.step)
    keeps_best = evaluation_of(task).get("keep_best")
    wanted = task.model_dir(progress.best_step) if keeps_best and progress.best_step else last
    if wanted.is_dir():
        return wanted
    if last != wanted:
        text = f"The model of the best epoch (step {progress.best_step}) was deleted; this is that of the last."
        recorder.started({"final_note": text})
    return last if last.is_dir() else save(last)
