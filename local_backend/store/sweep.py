"""Giving back the room of what nobody can use any more."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from local_backend.store.database import Store
from local_backend.store.files import LEFT_OVER_S, Files, can_go_on
from local_backend.store.tables import JobRow, ModelRow

KEPT_RESUME_POINTS = 3
"""So many failed jobs, the last ones, can go on: what that takes is as large as all weights that train, three times."""

FOR_RESUME = ("resume", "reference")
"""What a job that goes on reads; `frozen`, which it would compute again, is not worth its room meanwhile."""

ENDED = ("succeeded", "failed", "cancelled")


def sweep_home(store: Store) -> None:
    """Drop expired files, contents without a file, and what a crash left of requests that never ended."""
    Files(store).drop_expired()
    for path in (*store.incoming.iterdir(), *store.uploads.iterdir()):
        if _age_s(path) > LEFT_OVER_S:
            _remove(path)


def sweep_jobs(store: Store) -> None:
    """Drop what a crash has left of jobs that had ended."""
    for folder in store.jobs.iterdir():
        if any((folder / name).exists() for name in (*FOR_RESUME, "frozen")) or any(_half_written(folder)):
            sweep_job(store, folder.name)


def sweep_job(store: Store, job_id: str) -> None:
    """Drop what an ended job has no use for: checkpoints that no model's name leads to, caches, half-written folders.

    What a job goes on from goes too, unless it failed; the last few failed ones keep theirs.
    """
    with store.write() as session:  # so that nobody resumes it meanwhile
        job = session.scalar(select(JobRow).where(JobRow.id == job_id, JobRow.status.in_(ENDED)))
        if job is None:
            return
        query = select(ModelRow.model_dir).where(ModelRow.job_id == job_id, ModelRow.deleted.is_(False))
        _clear(store.jobs / job_id, named={Path(model_dir) for model_dir in session.scalars(query)})
        for folder in _without_way_on(session, job, store.jobs):
            for name in FOR_RESUME:
                _remove(folder / name)


def _clear(folder: Path, *, named: set[Path]) -> None:
    _remove(folder / "frozen")
    for path in (*_half_written(folder), *(folder / "checkpoints").glob("*")):
        if path not in named:
            _remove(path)


def _half_written(folder: Path) -> Iterator[Path]:
    """What is written whole or not at all has a name that begins with a dot until it is."""
    yield from folder.glob(".*")
    yield from folder.glob("*/.*")


def _without_way_on(session: Session, job: JobRow, jobs: Path) -> list[Path]:
    """The folders of ended jobs that need not keep what jobs go on from: of a job, and of jobs that failed long ago."""
    if job.status != "failed":
        return [jobs / job.id]
    failed = session.scalars(
        select(JobRow).where(JobRow.status == "failed").order_by(JobRow.finished_at.desc(), JobRow.seq.desc())
    )
    found = [row for row in failed if (jobs / row.id / "resume").is_dir()]
    going_on = [row for row in found if can_go_on(session, row, jobs / row.id)]
    return [jobs / row.id for row in found if row not in going_on[:KEPT_RESUME_POINTS]]


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
