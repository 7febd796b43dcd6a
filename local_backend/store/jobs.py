"""Jobs as the API sees and steers them. What a runner writes about its work is in `work`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from local_backend.names import new_id
from local_backend.store.answers import Idempotency, earlier_answer, keep_answer
from local_backend.store.blobs import blob_path
from local_backend.store.checkpoints import has_start, show_all, way_on
from local_backend.store.database import Store, now
from local_backend.store.events import add_event
from local_backend.store.files import UNFINISHED
from local_backend.store.paging import Page, page
from local_backend.store.tables import CheckpointRow, EventRow, FileRow, JobRow


class WrongStatusError(Exception):
    """A job in this status cannot be cancelled, paused or resumed. `reason` says why where the status does not."""

    def __init__(self, job_id: str, status: str, reason: str | None = None) -> None:
        super().__init__(job_id, status, reason)
        self.job_id = job_id
        self.status = status
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to create, its request validated."""

    model: str
    training: FileRow
    validation: FileRow | None
    sha256s: tuple[str, str | None]
    """Of the contents of both that the job reads: with images in place."""
    method: str
    hyperparameters: Mapping[str, Any]
    seed: int
    suffix: str | None
    metadata: Mapping[str, str] | None
    integrations: list[Any]
    local: Mapping[str, Any]
    engine: str


class Jobs:
    """The jobs of a store, for the API."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self, new: NewJob, *, show: Callable[[JobRow], dict[str, Any]], request: Idempotency | None = None
    ) -> dict[str, Any]:
        """Create a job with its first two events; return `show(row)`, or the answer this request had before."""
        with self._store.write() as session:
            answer = earlier_answer(session, request)
            if answer is None:
                row = _new_row(new)
                session.add(row)
                session.flush()
                add_event(session, row.id, f"Created fine-tuning job: {row.id}")
                add_event(session, row.id, _validating_text(row))
                answer = show(row)
                keep_answer(session, request, answer)
            return answer

    def answered(self, request: Idempotency | None) -> dict[str, Any] | None:
        """Return the answer that this request had before, if any.

        Raises:
            KeyReusedError: Another request had this key.
        """
        if request is None:
            return None
        with self._store.read() as session:
            return earlier_answer(session, request)

    def get(self, job_id: str) -> JobRow | None:
        """Return a job."""
        with self._store.read() as session:
            return session.scalar(select(JobRow).where(JobRow.id == job_id))

    def page(self, *, after: str | None, limit: int, metadata: Mapping[str, str] | str | None) -> Page[JobRow]:
        """Return a page of jobs, newest first. `metadata`: pairs to match, "null" for jobs without any, None for all.

        Raises:
            UnknownCursorError: There is no job `after`.
        """
        query = select(JobRow)
        if metadata == "null":
            query = query.where(JobRow.job_metadata.is_(None))
        elif isinstance(metadata, Mapping):
            query = query.where(*(_has_pair(key, value) for key, value in metadata.items()))
        with self._store.read() as session:
            return page(session, query, table=JobRow, after=after, limit=limit)

    def events(self, job_id: str, *, after: str | None, limit: int) -> Page[EventRow]:
        """Return a page of a job's events, newest first.

        Raises:
            UnknownCursorError: There is no event `after`.
        """
        with self._store.read() as session:
            query = select(EventRow).where(EventRow.job_id == job_id)
            return page(session, query, table=EventRow, after=after, limit=limit)

    def checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[CheckpointRow]:
        """Return a page of a job's usable checkpoints, newest first.

        Raises:
            UnknownCursorError: There is no checkpoint `after`.
        """
        with self._store.read() as session:
            query = select(CheckpointRow).where(CheckpointRow.job_id == job_id, CheckpointRow.model.is_not(None))
            return page(session, query, table=CheckpointRow, after=after, limit=limit)

    def unfinished(self) -> list[JobRow]:
        """Return the jobs that a runner has to work on, oldest first."""
        with self._store.read() as session:
            query = select(JobRow).where(JobRow.status.in_(UNFINISHED), JobRow.status != "paused")
            return list(session.scalars(query.order_by(JobRow.seq)))

    def cancel(self, job_id: str, *, base: str) -> JobRow:
        """End a job. Nothing that its runner does from here on is recorded; its checkpoints can be used.

        Args:
            job_id: Which one.
            base: The base model that its checkpoints are named after.

        Raises:
            WrongStatusError: It has ended already.
        """
        with self._store.write() as session:
            row = _in_status(session, job_id, UNFINISHED)
            show_all(session, row, base=base)
            row.status, row.owner, row.finished_at = "cancelled", None, now()
            add_event(session, job_id, "Fine-tuning job cancelled")
            return row

    def pause(self, job_id: str) -> JobRow:
        """Pause a job: at once if no runner works on it, else after its current step (`pausing` until then).

        Raises:
            WrongStatusError: It has ended or is paused.
        """
        with self._store.write() as session:
            row = _in_status(session, job_id, ("validating_files", "queued", "running", "pausing"))
            if row.owner is not None:
                row.status = "pausing"
            elif row.status != "pausing":
                row.status = "paused"
                add_event(session, job_id, "Fine-tuning job paused")
            return row

    def resume(self, job_id: str) -> JobRow:
        """Let a job go on when its turn comes: a paused one, or one that failed and has a resume point.

        Raises:
            WrongStatusError: It is neither, or what it needs is gone.
        """
        with self._store.write() as session:
            row = _in_status(session, job_id, ("paused", "failed"))
            self._check_way_on(session, row)
            row.status, row.attempts, row.error, row.finished_at = "queued", 0, None, None
            add_event(session, job_id, "Fine-tuning job resumed")
            return row

    def _check_way_on(self, session: Session, row: JobRow) -> None:
        if not has_start(session, row):
            reason = "the model that it starts from was deleted. Start another with `ftclient train`."
            raise WrongStatusError(row.id, row.status, reason)
        if row.status == "paused":
            return
        if way_on(session, row, code=(row.error or {}).get("code"), folder=self._store.jobs / row.id) is None:
            reason = "it has no resume point to go on from. Start it again with `ftclient train`."
            raise WrongStatusError(row.id, row.status, reason)
        contents = filter(None, (row.training_sha256, row.validation_sha256))
        if not all(blob_path(self._store.blobs, sha256).is_file() for sha256 in contents):
            reason = "its training or validation file was deleted. Start it again with `ftclient train`."
            raise WrongStatusError(row.id, row.status, reason)


def _new_row(new: NewJob) -> JobRow:
    return JobRow(
        id=new_id("ftjob-"),
        created_at=now(),
        model=new.model,
        status="validating_files",
        training_file=new.training.id,
        training_sha256=new.sha256s[0],
        validation_file=new.validation.id if new.validation else None,
        validation_sha256=new.sha256s[1],
        result_files=[],
        method=new.method,
        hyperparameters=dict(new.hyperparameters),
        seed=new.seed,
        suffix=new.suffix,
        job_metadata=dict(new.metadata) if new.metadata else None,
        integrations=new.integrations,
        local=dict(new.local),
        engine=new.engine,
        facts={},
        progress={},
        notes=[],
    )


def _validating_text(row: JobRow) -> str:
    text = f"Validating training file: {row.training_file}"
    return text if row.validation_file is None else f"{text} and validation file: {row.validation_file}"


def _in_status(session: Session, job_id: str, statuses: tuple[str, ...]) -> JobRow:
    row = session.scalars(select(JobRow).where(JobRow.id == job_id)).one()
    if row.status not in statuses:
        raise WrongStatusError(job_id, row.status)
    return row


def _has_pair(key: str, value: str) -> ColumnElement[bool]:
    pairs = func.json_each(JobRow.job_metadata).table_valued("key", "value")
    return exists(select(1).select_from(pairs).where(pairs.c.key == key, pairs.c.value == value))
