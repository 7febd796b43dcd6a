"""Checkpoints of a job: which are kept, which have a name, and what of a job that ended badly is of use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from local_backend.names import checkpoint_name, is_tuned, new_id
from local_backend.store.database import now
from local_backend.store.events import add_event
from local_backend.store.tables import CheckpointRow, JobRow, ModelRow

KEPT_CHECKPOINTS = 3
"""OpenAI keeps the checkpoints of the last three epochs."""

ONLY_REPEATS = ("training_diverged", "nothing_trained")
"""Errors that a job would meet again at the same step, so that it does not go on."""

SAY_ANEW = ("base_model_changed", "resume_point_unreadable")
"""Errors whose text says to start anew: only if what has changed since is put back can the job go on."""


def resume_point(folder: Path) -> tuple[int, int] | None:
    """The step that a job goes on from and when that was written (seconds since 1970): engines keep a `step-<n>`."""
    found = sorted((folder / "resume").glob("step-*"))
    if not found:
        return None
    try:
        return int(found[-1].name.partition("-")[2]), int(found[-1].stat().st_mtime)
    except FileNotFoundError:  # a newer one has just taken its place
        return resume_point(folder)


def way_on(session: Session, job: JobRow, *, code: str | None, folder: Path) -> int | None:
    """The step that a job which failed with an error of this code can go on from; None: there is none."""
    point = resume_point(folder)
    return None if point is None or code in ONLY_REPEATS or not has_start(session, job) else point[0]


def has_start(session: Session, job: JobRow) -> bool:
    """Whether the model that a job starts from is still there; a tuned one may have been deleted."""
    if not is_tuned(job.model):
        return True
    return session.scalar(select(ModelRow.seq).where(ModelRow.id == job.model, ModelRow.deleted.is_(False))) is not None


def best_so_far(session: Session, job: JobRow) -> CheckpointRow | None:
    """The checkpoint that a job which keeps its best epoch would end with if none got better; None: it keeps none."""
    if not (job.local.get("evaluation") or {}).get("keep_best"):
        return None
    rows = session.scalars(select(CheckpointRow).where(CheckpointRow.job_id == job.id).order_by(CheckpointRow.seq))
    known = [row for row in rows if row.metrics.get("full_valid_loss") is not None]
    return min(known, key=lambda row: (row.metrics["full_valid_loss"], row.step_number), default=None)


def add_checkpoint(
    session: Session, job_id: str, *, step: int, model_dir: Path, metrics: Mapping[str, float]
) -> CheckpointRow:
    """Record a usable model without a name, unless that step is recorded already."""
    query = select(CheckpointRow).where(CheckpointRow.job_id == job_id, CheckpointRow.step_number == step)
    row = session.scalar(query)
    if row is None:
        row = CheckpointRow(
            id=new_id("ftckpt_"),
            job_id=job_id,
            created_at=now(),
            step_number=step,
            metrics=dict(metrics),
            model_dir=str(model_dir),
        )
        session.add(row)
        session.flush()
    return row


def forget_old(session: Session, job_id: str, *, best_step: int | None) -> list[Path]:
    """Forget all checkpoints but the last ones, the best, and those that have a name; return the forgotten folders."""
    old = [row for row in _unnamed(session, job_id)[KEPT_CHECKPOINTS:] if row.step_number != best_step]
    for row in old:
        session.delete(row)
    return [Path(row.model_dir) for row in old]


def show_last(session: Session, job: JobRow, *, base: str, final: str, final_dir: str) -> None:
    """Name the last checkpoints; that of the final model, the best one where that was asked for, has its name."""
    found = _unnamed_on_disk(session, job.id)
    shown = [row for at, row in enumerate(found) if at < KEPT_CHECKPOINTS or row.model_dir == final_dir]
    for row in reversed(shown):
        if row.model_dir == final_dir:
            row.model = final
        else:
            _show(session, job, row, base=base)


def show_all(session: Session, job: JobRow, *, base: str) -> None:
    """Name every checkpoint that there is: of a job that ended badly, each may be what its user needs."""
    for row in reversed(_unnamed_on_disk(session, job.id)):
        _show(session, job, row, base=base)


def name_checkpoint(session: Session, job: JobRow, row: CheckpointRow, *, base: str) -> str:
    """Give a checkpoint a name under which it can be used, unless it has one; return it."""
    if row.model is None:
        row.model = checkpoint_name(base, suffix=job.suffix, step=row.step_number)
        add_model(session, row.model, base=base, job=job, model_dir=row.model_dir)
    return row.model


def add_model(session: Session, name: str, *, base: str, job: JobRow, model_dir: str) -> None:
    """Record a model that can be talked to."""
    session.add(ModelRow(id=name, created=now(), base=base, job_id=job.id, engine=job.engine, model_dir=model_dir))


def with_advice(session: Session, job: JobRow, error: Mapping[str, Any], *, folder: Path) -> dict[str, Any]:
    """The error of a job that fails now, whose text also says what is left of the job: a model, a way to go on."""
    query = select(CheckpointRow).join(ModelRow, ModelRow.id == CheckpointRow.model)
    there = query.where(CheckpointRow.job_id == job.id, ModelRow.deleted.is_(False))
    last = session.scalar(there.order_by(CheckpointRow.step_number.desc()).limit(1))
    step = way_on(session, job, code=error.get("code"), folder=folder)
    told = [str(error["message"])]
    if step is not None and error.get("code") not in SAY_ANEW:
        told.append(f"Go on from step {step} with `ftclient resume {job.id}`.")
    if last is not None:
        told.append(f"The model as it was after step {last.step_number} can be used: {last.model}")
    return {**error, "message": " ".join(told)}


def _show(session: Session, job: JobRow, row: CheckpointRow, *, base: str) -> None:
    name = name_checkpoint(session, job, row, base=base)
    add_event(session, job.id, f"Checkpoint created at step {row.step_number} with Snapshot ID: {name}")


def _unnamed(session: Session, job_id: str) -> Sequence[CheckpointRow]:
    """Checkpoints that are not shown yet, newest first."""
    query = select(CheckpointRow).where(CheckpointRow.job_id == job_id, CheckpointRow.model.is_(None))
    return session.scalars(query.order_by(CheckpointRow.step_number.desc())).all()


def _unnamed_on_disk(session: Session, job_id: str) -> list[CheckpointRow]:
    return [row for row in _unnamed(session, job_id) if Path(row.model_dir).is_dir()]
