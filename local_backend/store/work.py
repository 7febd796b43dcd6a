"""What a runner reads and writes. Every write is conditional on the job still being this runner's own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from local_backend.names import tuned_name
from local_backend.store.blobs import Content
from local_backend.store.checkpoints import (
    add_checkpoint,
    add_model,
    forget_old,
    name_checkpoint,
    show_all,
    show_last,
    with_advice,
)
from local_backend.store.database import Store, now
from local_backend.store.events import add_event
from local_backend.store.files import NewFile, insert
from local_backend.store.tables import EventRow, JobRow, RunnerRow
from local_backend.task import Outcome, Signal

STARTED = "Fine-tuning job started"


class Work:
    """The jobs of a store, for the one runner that holds the home's lock. `owner` names this run of it."""

    def __init__(self, store: Store, *, owner: str) -> None:
        self._store = store
        self.owner = owner

    def take_over(self) -> None:
        """Queue again what an earlier runner left behind: whoever holds the lock knows that it is dead."""
        with self._store.write() as session:
            left = update(JobRow).where(JobRow.owner.is_not(None), JobRow.owner != self.owner)
            session.execute(left.where(JobRow.status == "running").values(status="queued", owner=None))
            session.execute(left.values(owner=None))

    def beat(self, job_id: str | None) -> None:
        """Show that this runner is alive."""
        with self._store.write() as session:
            row = RunnerRow(id=1, owner=self.owner, pid=os.getpid(), heartbeat_at=time.time(), job=job_id)
            session.merge(row)

    def rest(self) -> None:
        """Say that this runner has gone."""
        with self._store.write() as session:
            session.execute(delete(RunnerRow).where(RunnerRow.owner == self.owner))

    def is_waited_for(self) -> bool:
        """Whether any job is to be validated or run."""
        with self._store.read() as session:
            statuses = ("validating_files", "queued", "running", "pausing")
            return session.scalar(select(JobRow.seq).where(JobRow.status.in_(statuses)).limit(1)) is not None

    def next_to_validate(self) -> JobRow | None:
        """Return the oldest job whose files have not been looked at."""
        with self._store.read() as session:
            statuses = ("validating_files", "queued", "pausing")
            query = select(JobRow).where(JobRow.validated.is_(False), JobRow.status.in_(statuses))
            return session.scalar(query.order_by(JobRow.seq).limit(1))

    def validated(self, job_id: str, *, hyperparameters: Mapping[str, Any], notes: list[str]) -> None:
        """Record that a job's files are good, with numbers for every `auto`."""
        with self._store.write() as session:
            row = _row(session, job_id)
            if row.status in ("validating_files", "queued", "pausing") and not row.validated:
                row.status = "queued" if row.status == "validating_files" else row.status
                row.validated = True
                row.hyperparameters = dict(hyperparameters)
                row.notes = [*row.notes, *notes]
                add_event(session, job_id, "Files validated, moving job to queued state")

    def rejected(self, job_id: str, *, error: Mapping[str, Any], notes: list[str]) -> None:
        """Record that a job's files are no good."""
        with self._store.write() as session:
            row = _row(session, job_id)
            if row.owner is None and row.status in ("validating_files", "queued", "pausing"):
                row.notes = [*row.notes, *notes]
                _fail(session, row, error)

    def claim(self) -> JobRow | None:
        """Take the oldest job that is ready to run. One that is to be paused runs until it can be."""
        ready = select(JobRow).where(JobRow.validated, JobRow.owner.is_(None), JobRow.status.in_(("queued", "pausing")))
        with self._store.read() as session:
            if session.scalar(ready.limit(1)) is None:
                return None
        with self._store.write() as session:
            row = session.scalar(ready.order_by(JobRow.seq).limit(1))
            if row is not None:
                row.owner = self.owner
                row.attempts += 1
                row.status = "running" if row.status == "queued" else row.status
            return row

    def put_back(self, job_id: str) -> None:
        """Record that this runner stops in order: its start of the job is none that ended in a crash."""
        with self._store.write() as session:
            row = _row(session, job_id)
            if row.owner == self.owner:
                row.attempts = max(0, row.attempts - 1)

    def signal(self, job_id: str) -> Signal:
        """What the user wants of a job."""
        with self._store.read() as session:
            return self._signal(_row(session, job_id))

    def started(self, job_id: str, facts: Mapping[str, Any]) -> None:
        """Record that training begins, once however often it is resumed."""
        with self._store.write() as session:
            row = _row(session, job_id)
            if self._signal(row) is Signal.CANCEL:
                return
            row.facts = {**row.facts, **facts}
            said = select(EventRow.seq).where(EventRow.job_id == job_id, EventRow.message == STARTED)
            if session.scalar(said.limit(1)) is None:
                add_event(session, job_id, STARTED, data=None)

    def step(self, job_id: str, *, step: int, message: str, data: dict[str, Any], progress: dict[str, Any]) -> Signal:
        """Record one step, unless it is recorded already."""
        with self._store.write() as session:
            row = _row(session, job_id)
            wanted = self._signal(row)
            if wanted is Signal.CANCEL:
                return wanted
            known = select(EventRow.seq).where(EventRow.job_id == job_id, EventRow.step == step)
            if session.scalar(known) is None:
                add_event(session, job_id, message, kind="metrics", data=data, step=step)
                row.attempts = 0
            row.progress = progress
            return wanted

    def checkpoint(
        self, job_id: str, *, step: int, model_dir: Path, metrics: Mapping[str, float], best_step: int | None
    ) -> list[Path]:
        """Record a usable model, which is shown when the job ends; return the folders of those that are not kept."""
        with self._store.write() as session:
            if self._signal(_row(session, job_id)) is Signal.CANCEL:
                return []
            add_checkpoint(session, job_id, step=step, model_dir=model_dir, metrics=metrics)
            return forget_old(session, job_id, best_step=best_step)

    def metrics(self, job_id: str) -> list[dict[str, Any]]:
        """Return the data of all steps in order."""
        with self._store.read() as session:
            query = select(EventRow.data).where(EventRow.job_id == job_id, EventRow.type == "metrics")
            return [dict(data or {}) for data in session.scalars(query.order_by(EventRow.step))]

    def succeeded(self, job_id: str, outcome: Outcome, *, base: str, result: Content) -> str | None:
        """Record the end of a job with everything that comes with it; return the new model's name.

        None: the job was cancelled in the meantime.
        """
        with self._store.write() as session:
            row = _row(session, job_id)
            if self._signal(row) is Signal.CANCEL or outcome.model_dir is None:
                return None
            file = insert(
                session,
                result,
                NewFile(filename="step_metrics.csv", purpose="fine-tune-results"),
                blobs=self._store.blobs,
            )
            name = tuned_name(base, suffix=row.suffix)
            show_last(session, row, base=base, final=name, final_dir=str(outcome.model_dir))
            add_model(session, name, base=base, job=row, model_dir=str(outcome.model_dir))
            row.status, row.owner, row.finished_at = "succeeded", None, now()
            row.result_files, row.fine_tuned_model = [file.id], name
            row.trained_tokens = outcome.trained_tokens
            add_event(session, job_id, f"New fine-tuned model created: {name}")
            add_event(session, job_id, "The job has successfully completed")
            return name

    def paused(self, job_id: str, outcome: Outcome, *, base: str) -> None:
        """Record that a job has come to rest and that its snapshot can be used."""
        with self._store.write() as session:
            row = _row(session, job_id)
            if self._signal(row) is Signal.CANCEL:
                return
            row.status, row.owner, row.attempts = "paused", None, 0
            step = int(row.progress.get("step", 0))
            if outcome.model_dir is not None and step:
                metrics = {"step": step, **_losses(session, job_id, step)}
                found = add_checkpoint(session, job_id, step=step, model_dir=outcome.model_dir, metrics=metrics)
                name_checkpoint(session, row, found, base=base)
            add_event(session, job_id, "Fine-tuning job paused")

    def failed(self, job_id: str, error: Mapping[str, Any], *, base: str) -> None:
        """Record that a job of this runner has failed. Its checkpoints can be used; its text says what else is left."""
        with self._store.write() as session:
            row = _row(session, job_id)
            if self._signal(row) is not Signal.CANCEL:
                show_all(session, row, base=base)
                _fail(session, row, with_advice(session, row, error, folder=self._store.jobs / job_id))

    def note(self, job_id: str, text: str) -> None:
        """Add a sentence to the job's details."""
        with self._store.write() as session:
            row = _row(session, job_id)
            if self._signal(row) is not Signal.CANCEL and text not in row.notes:
                row.notes = [*row.notes, text]

    def _signal(self, row: JobRow) -> Signal:
        if row.owner != self.owner:
            return Signal.CANCEL
        return {"running": Signal.GO_ON, "pausing": Signal.PAUSE}.get(row.status, Signal.CANCEL)


def _row(session: Session, job_id: str) -> JobRow:
    return session.scalars(select(JobRow).where(JobRow.id == job_id)).one()


def _fail(session: Session, row: JobRow, error: Mapping[str, Any]) -> None:
    row.status, row.owner, row.finished_at, row.error = "failed", None, now(), dict(error)
    add_event(session, row.id, str(error["message"]), level="error")


def _losses(session: Session, job_id: str, step: int) -> dict[str, Any]:
    names = ("train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy")
    query = select(EventRow.data).where(EventRow.job_id == job_id, EventRow.step == step)
    data = session.scalar(query) or {}
    return {name: data[name] for name in names if name in data}


def runner_row(store: Store) -> RunnerRow | None:
    """What the runner of a store last said about itself."""
    with store.read() as session:
        return session.get(RunnerRow, 1)
