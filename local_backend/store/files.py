"""Files: rows here, contents by sha256 on disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from local_backend.names import new_id
from local_backend.store.answers import Idempotency, earlier_answer, keep_answer
from local_backend.store.blobs import Content, blob_path, keep
from local_backend.store.checkpoints import way_on
from local_backend.store.database import Store, now
from local_backend.store.image_files import put_images, with_images
from local_backend.store.paging import Page, page
from local_backend.store.tables import FileRow, JobRow

UNFINISHED = ("validating_files", "queued", "running", "pausing", "paused")
"""Statuses of jobs that still need their files."""

LEFT_OVER_S = 24 * 3600
"""What arrives, or is made for a job to come, is never under way for so long; parts of uploads expire after an hour."""

IMAGE_PURPOSES = ("vision", "user_data")
"""What an image may have been uploaded for that training files name."""


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """What a file is to be called, and how long it lives."""

    filename: str
    purpose: str
    lifetime_s: int | None = None
    status_details: str | None = None
    """Why the content cannot be used; None: it can, as far as one sees without a job."""


class Files:
    """The files of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self,
        content: Content,
        new: NewFile,
        *,
        show: Callable[[FileRow], dict[str, Any]],
        request: Idempotency | None = None,
    ) -> dict[str, Any]:
        """Keep a content as a file and return `show(row)`, or the answer that this request had before."""
        with self._store.write() as session:
            answer = earlier_answer(session, request)
            if answer is None:
                row = insert(session, content, new, blobs=self._store.blobs)
                session.flush()
                answer = show(row)
                keep_answer(session, request, answer)
            return answer

    def get(self, file_id: str) -> FileRow | None:
        """Return a file that is neither deleted nor expired."""
        with self._store.read() as session:
            return session.scalar(_living().where(FileRow.id == file_id))

    def stored_path(self, row: FileRow) -> Path:
        """Where the file's content lies, as it was uploaded."""
        return blob_path(self._store.blobs, row.sha256)

    def path(self, row: FileRow) -> Path:
        """Where the content lies that jobs read: the same, with images that it names by their files' ids in place."""
        return blob_path(self._store.blobs, self.content(row))

    def content(self, row: FileRow) -> str:
        """The sha256 of what jobs read; see `path`."""
        return with_images(self._store, row, find=self._image_path)

    def put_images(self, example: dict[str, Any]) -> None:
        """Put the images that an example, or {"messages": ...}, names by their files' ids in their places."""
        put_images(example, find=self._image_path)

    def _image_path(self, file_id: str) -> Path | None:
        row = self.get(file_id)
        return None if row is None or row.purpose not in IMAGE_PURPOSES else self.stored_path(row)

    def page(self, *, purpose: str | None, after: str | None, limit: int, newest_first: bool) -> Page[FileRow]:
        """Return a page of the files.

        Raises:
            UnknownCursorError: There is no file `after`.
        """
        query = _living() if purpose is None else _living().where(FileRow.purpose == purpose)
        with self._store.read() as session:
            return page(session, query, table=FileRow, after=after, limit=limit, newest_first=newest_first)

    def delete(self, file_id: str) -> bool:
        """Delete a file; its content, and what jobs read of it, goes once no file and no unfinished job needs it."""
        with self._store.write() as session:
            row = session.scalar(_living().where(FileRow.id == file_id))
            if row is None:
                return False
            row.deleted = True
            uploaded = row.sha256
            unneeded = {uploaded, *_read_by_jobs(session, uploaded)}
        for sha256 in unneeded:
            self._drop_unused(sha256, made_of=uploaded)
        return True

    def drop_expired(self) -> None:
        """Delete the files whose time is over, and contents that nothing needs."""
        with self._store.read() as session:
            unused = [path.name for path in self._store.blobs.iterdir() if not self._is_kept(session, path)]
        for sha256 in unused:
            self._drop_unused(sha256)

    def _is_kept(self, session: Session, content: Path) -> bool:
        return _is_used(session, content.name, jobs=self._store.jobs) or _is_new(session, content)

    def _drop_unused(self, sha256: str, *, made_of: str | None = None) -> None:
        """Remove a content that nobody needs, nor a job to come.

        The write lock keeps an upload of the same content, and a job that is about to read it, from crossing this.

        Args:
            sha256: The content.
            made_of: What it was made of, if that is known: once that is no file's, no job to come reads it.
        """
        content = blob_path(self._store.blobs, sha256)
        with self._store.write() as session:
            may_be_awaited = made_of is None or session.scalar(_files_of(made_of)) is not None
            is_awaited = may_be_awaited and _is_new(session, content)
            if not is_awaited and not _is_used(session, sha256, jobs=self._store.jobs):
                content.unlink(missing_ok=True)


def insert(session: Session, content: Content, new: NewFile, *, blobs: Path) -> FileRow:
    """Add a file inside a transaction: the content first, so that a row always has one."""
    keep(content, folder=blobs)
    row = FileRow(
        id=new_id("file-"),
        bytes=content.n_bytes,
        created_at=now(),
        expires_at=None if new.lifetime_s is None else now() + new.lifetime_s,
        filename=new.filename,
        purpose=new.purpose,
        status="processed" if new.status_details is None else "error",
        status_details=new.status_details,
        sha256=content.sha256,
    )
    session.add(row)
    return row


def _living() -> Select[FileRow]:
    not_expired = or_(FileRow.expires_at.is_(None), FileRow.expires_at > now())
    return select(FileRow).where(FileRow.deleted.is_(False), not_expired)


def _files_of(sha256: str) -> Select[int]:
    """One living file that has a content, if any has."""
    return _living().with_only_columns(FileRow.seq).where(FileRow.sha256 == sha256).limit(1)


def _read_by_jobs(session: Session, sha256: str) -> set[str]:
    """The sha256s of what jobs have read of the files, deleted ones too, that an upload's content belongs to."""
    files = select(FileRow.id).where(FileRow.sha256 == sha256)
    training = select(JobRow.training_sha256).where(JobRow.training_file.in_(files))
    validation = select(JobRow.validation_sha256).where(JobRow.validation_file.in_(files))
    return {found for found in session.scalars(training.union(validation)) if found is not None}


def _is_used(session: Session, sha256: str, *, jobs: Path) -> bool:
    reads_it = or_(JobRow.training_sha256 == sha256, JobRow.validation_sha256 == sha256)
    unfinished = select(JobRow.seq).where(JobRow.status.in_(UNFINISHED), reads_it).limit(1)
    known = any(session.scalar(query) is not None for query in (_files_of(sha256), unfinished))
    return known or _may_go_on_with(session, sha256, jobs)


def _may_go_on_with(session: Session, sha256: str, jobs: Path) -> bool:
    """Whether a failed job that can go on reads a content that was made from a file which is still there."""
    there = _living().with_only_columns(FileRow.id)
    training = and_(JobRow.training_sha256 == sha256, JobRow.training_file.in_(there))
    validation = and_(JobRow.validation_sha256 == sha256, JobRow.validation_file.in_(there))
    failed = session.scalars(select(JobRow).where(JobRow.status == "failed", or_(training, validation)))
    return any(can_go_on(session, job, jobs / job.id) for job in failed)


def can_go_on(session: Session, job: JobRow, folder: Path) -> bool:
    """Whether a job that has failed, and whose folder this is, can be resumed."""
    return way_on(session, job, code=(job.error or {}).get("code"), folder=folder) is not None


def _is_new(session: Session, content: Path) -> bool:
    """Whether a content was never a file's and is no day old: it may have been made for a job that has no row yet."""
    row = session.scalar(select(FileRow.seq).where(FileRow.sha256 == content.name).limit(1))
    try:
        return row is None and time.time() - content.stat().st_mtime < LEFT_OVER_S
    except FileNotFoundError:
        return False
