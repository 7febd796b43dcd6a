"""Files: rows here, contents by sha256 on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from local_backend.names import new_id
from local_backend.store.answers import Idempotency, earlier_answer, keep_answer
from local_backend.store.blobs import Content, blob_path, keep
from local_backend.store.database import Store, now
from local_backend.store.image_files import with_images
from local_backend.store.paging import Page, page
from local_backend.store.tables import FileRow, JobRow

UNFINISHED = ("validating_files", "queued", "running", "pausing", "paused")
"""Statuses of jobs that still need their files."""

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
        """Delete a file; its content goes once neither a file nor an unfinished job needs it."""
        with self._store.write() as session:
            row = session.scalar(_living().where(FileRow.id == file_id))
            if row is None:
                return False
            row.deleted = True
            sha256 = row.sha256
        self._drop_unused(sha256)
        return True

    def drop_expired(self) -> None:
        """Delete the files whose time is over, and contents that nothing needs."""
        with self._store.read() as session:
            unused = [path.name for path in self._store.blobs.iterdir() if not _is_used(session, path.name)]
        for sha256 in unused:
            self._drop_unused(sha256)

    def _drop_unused(self, sha256: str) -> None:
        """Remove a content nobody needs. The write lock keeps an upload of the same content from crossing this."""
        with self._store.write() as session:
            if not _is_used(session, sha256):
                blob_path(self._store.blobs, sha256).unlink(missing_ok=True)


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


def _is_used(session: Session, sha256: str) -> bool:
    files = _living().with_only_columns(FileRow.seq).where(FileRow.sha256 == sha256)
    jobs = select(JobRow.seq).where(
        JobRow.status.in_(UNFINISHED),
        or_(JobRow.training_sha256 == sha256, JobRow.validation_sha256 == sha256),
    )
    return session.scalar(files.limit(1)) is not None or session.scalar(jobs.limit(1)) is not None
