"""What a training reports, turned into events, progress and the result file."""

from __future__ import annotations

import csv
import io
import math
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from local_backend.integrations import connect
from local_backend.store.tables import JobRow
from local_backend.store.work import Work
from local_backend.task import Signal, StepReport

_METRICS = (
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)

_CSV_COLUMNS = {
    "step": "step",
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""Columns of the result file as OpenAI writes them, and the metrics they hold."""


class StoppedError(BaseException):
    """The runner is to stop now; the job stays as it is and goes on later."""


class JobRecorder:
    """Writes what an engine reports about one job into the store."""

    def __init__(self, work: Work, job: JobRow, *, stop: threading.Event) -> None:
        self._work = work
        self._job_id = job.id
        self._stop = stop
        self._elapsed_before_s = float(job.progress.get("elapsed_s", 0.0))
        self._started_at: float | None = None
        self._first_step: int | None = None
        self._runs, notes = connect(job)
        for text in notes:
            work.note(job.id, text)

    def started(self, facts: Mapping[str, Any]) -> None:
        """Record that weights are loaded and data rendered."""
        self._work.started(self._job_id, _plain(facts))
        if self._started_at is None:  # engines also tell facts that they learn later
            self._started_at = time.monotonic()

    def step(self, report: StepReport) -> Signal:
        """Record one step as an event with its metrics."""
        self._check_stop()
        data = step_data(report)
        wanted = self._work.step(
            self._job_id,
            step=report.step,
            message=step_text(report),
            data=data,
            progress=self._progress(report),
        )
        if wanted is not Signal.CANCEL:
            for run in self._runs:
                run.send(data)
        return wanted

    def checkpoint(
        self, *, step: int, model_dir: Path, metrics: Mapping[str, float], best_step: int | None = None
    ) -> None:
        """Record a usable model, and remove those that are too old to be kept."""
        known = _plain({"step": step, **{name: value for name, value in metrics.items() if name in _METRICS}})
        old = self._work.checkpoint(self._job_id, step=step, model_dir=model_dir, metrics=known, best_step=best_step)
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)

    def signal(self) -> Signal:
        """What the user wants."""
        self._check_stop()
        return self._work.signal(self._job_id)

    def close(self) -> None:
        """End what runs beside the recording."""
        for run in self._runs:
            run.close()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    def _progress(self, report: StepReport) -> dict[str, Any]:
        run_s = 0.0 if self._started_at is None else time.monotonic() - self._started_at
        if self._first_step is None:
            self._first_step = report.step - 1
        done = report.step - self._first_step
        return {
            "step": report.step,
            "total_steps": report.total_steps,
            "tokens_per_s": _tokens_per_s(report.extra),
            "elapsed_s": self._elapsed_before_s + run_s,
            "remaining_s": run_s / done * (report.total_steps - report.step) if done > 0 else None,
        }


def step_text(report: StepReport) -> str:
    """The message of a step's event, in OpenAI's words."""
    text = f"Step {report.step}/{report.total_steps}: training loss={report.train_loss:.2f}"
    if report.valid_loss is not None:
        text += f", validation loss={report.valid_loss:.2f}"
    if report.full_valid_loss is not None:
        text += f", full validation loss={report.full_valid_loss:.2f}"
    return text


def step_data(report: StepReport) -> dict[str, Any]:
    """The data of a step's event: OpenAI's keys, then what else the engine measured."""
    values = {name: getattr(report, name) for name in _METRICS}
    known = {name: value for name, value in values.items() if value is not None}
    return _plain({"step": report.step, "total_steps": report.total_steps, **known, **report.extra})


def result_csv(metrics: Iterable[Mapping[str, Any]]) -> bytes:
    """The result file: a row a step, empty cells where there was no validation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for data in metrics:
        writer.writerow([data.get(name, "") for name in _CSV_COLUMNS.values()])
    return text.getvalue().encode()


def _tokens_per_s(extra: Mapping[str, float]) -> float | None:
    if "tokens_per_s" in extra:
        return float(extra["tokens_per_s"])
    seconds = extra.get("seconds")
    return float(extra["tokens"]) / seconds if seconds and "tokens" in extra else None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has neither NaN nor infinity: they become null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
