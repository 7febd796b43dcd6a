"""Tuned models and checkpoints, and who may use them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from local_backend.names import new_id
from local_backend.store.checkpoints import best_so_far
from local_backend.store.database import Store, now
from local_backend.store.files import UNFINISHED
from local_backend.store.paging import Page, page
from local_backend.store.tables import JobRow, ModelRow, PermissionRow


class ModelInUseError(Exception):
    """A job that has not ended needs the model; the text says which, and what to do."""


class Models:
    """The tuned models of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, name: str) -> ModelRow | None:
        """Return a tuned model or checkpoint that was not deleted."""
        with self._store.read() as session:
            return session.scalar(select(ModelRow).where(ModelRow.id == name, ModelRow.deleted.is_(False)))

    def base_of(self, name: str) -> str | None:
        """Return the base model of a tuned one, also of one that was deleted; None: there never was one."""
        with self._store.read() as session:
            return session.scalar(select(ModelRow.base).where(ModelRow.id == name))

    def all(self) -> Sequence[ModelRow]:
        """Return all of them, oldest first."""
        with self._store.read() as session:
            return session.scalars(select(ModelRow).where(ModelRow.deleted.is_(False)).order_by(ModelRow.seq)).all()

    def delete(self, name: str) -> bool:
        """Delete a tuned model with its files; False: there is none of this name.

        Raises:
            ModelInUseError: A job that has not ended starts from it, or may end with it.
        """
        with self._store.write() as session:
            row = session.scalar(select(ModelRow).where(ModelRow.id == name, ModelRow.deleted.is_(False)))
            if row is None:
                return False
            _check_unneeded(session, row)
            row.deleted = True
            same_dir = select(ModelRow.seq).where(ModelRow.model_dir == row.model_dir, ModelRow.deleted.is_(False))
            unused = None if session.scalar(same_dir.where(ModelRow.id != name)) else Path(row.model_dir)
        if unused is not None and unused.is_relative_to(self._store.jobs):
            shutil.rmtree(unused, ignore_errors=True)
        return True


def _check_unneeded(session: Session, model: ModelRow) -> None:
    """Failed jobs do not count: to delete what they need is a way to give them up."""
    job = session.scalar(select(JobRow).where(JobRow.model == model.id, JobRow.status.in_(UNFINISHED)).limit(1))
    if job is not None:
        raise ModelInUseError(f"Job {job.id} ({job.status}) starts from {model.id}. {_LET_IT_END}")
    maker = session.scalar(select(JobRow).where(JobRow.id == model.job_id, JobRow.status.in_(UNFINISHED)))
    best = None if maker is None else best_so_far(session, maker)
    if maker is not None and best is not None and best.model_dir == model.model_dir:
        text = f"Job {maker.id} ({maker.status}) ends with {model.id} unless another epoch is better. {_LET_IT_END}"
        raise ModelInUseError(text)


_LET_IT_END = "Let it end, or cancel it, before you delete the model."


class Permissions:
    """Which projects may use which checkpoints."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, checkpoint: str, project_ids: Sequence[str]) -> Sequence[PermissionRow]:
        """Allow projects the use of a checkpoint."""
        rows = [
            PermissionRow(id=new_id("cp_"), checkpoint=checkpoint, created_at=now(), project_id=project)
            for project in project_ids
        ]
        with self._store.write() as session:
            session.add_all(rows)
        return rows

    def page(
        self, checkpoint: str, *, project_id: str | None, after: str | None, limit: int, newest_first: bool
    ) -> Page[PermissionRow]:
        """Return a page of a checkpoint's permissions.

        Raises:
            UnknownCursorError: There is no permission `after`.
        """
        query = select(PermissionRow).where(PermissionRow.checkpoint == checkpoint, PermissionRow.deleted.is_(False))
        if project_id is not None:
            query = query.where(PermissionRow.project_id == project_id)
        with self._store.read() as session:
            return page(session, query, table=PermissionRow, after=after, limit=limit, newest_first=newest_first)

    def delete(self, checkpoint: str, permission_id: str) -> bool:
        """Take a permission back; False: there is none."""
        with self._store.write() as session:
            row = session.scalar(
                select(PermissionRow).where(
                    PermissionRow.id == permission_id,
                    PermissionRow.checkpoint == checkpoint,
                    PermissionRow.deleted.is_(False),
                )
            )
            if row is not None:
                row.deleted = True
            return row is not None
