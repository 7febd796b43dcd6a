"""Files that arrive in parts."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from local_backend.names import new_id
from local_backend.store.blobs import CHUNK_BYTES, Content, Incoming, join
from local_backend.store.database import Store, now
from local_backend.store.files import NewFile, insert
from local_backend.store.tables import FileRow, PartRow, UploadRow

LIFETIME_S = 3600
"""An upload expires an hour after it was created (OpenAI's rule)."""


class UploadError(Exception):
    """An upload cannot be completed or added to; the text says why."""


@dataclass(frozen=True, kw_only=True)
class NewUpload:
    """What is announced of an upload."""

    n_bytes: int
    filename: str
    purpose: str
    mime_type: str
    file_lifetime_s: int | None


class Uploads:
    """The uploads of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, new: NewUpload) -> UploadRow:
        """Announce a file that will come in parts."""
        row = UploadRow(
            id=new_id("upload_"),
            bytes=new.n_bytes,
            created_at=now(),
            expires_at=now() + LIFETIME_S,
            filename=new.filename,
            purpose=new.purpose,
            mime_type=new.mime_type,
            status="pending",
            file_lifetime_s=new.file_lifetime_s,
        )
        with self._store.write() as session:
            session.add(row)
        return row

    def get(self, upload_id: str) -> UploadRow | None:
        """Return an upload; one whose time is over is `expired`."""
        with self._store.write() as session:
            row = session.get(UploadRow, upload_id)
            if row is not None and row.status == "pending" and row.expires_at <= now():
                row.status = "expired"
                shutil.rmtree(self._folder(upload_id), ignore_errors=True)
            return row

    def add_part(self, upload_id: str, content: Content) -> PartRow:
        """Add a part.

        Raises:
            UploadError: The upload is no longer pending.
        """
        row = PartRow(id=new_id("part_"), upload_id=upload_id, bytes=content.n_bytes, created_at=now())
        with self._store.write() as session:
            _pending(session, upload_id)
            folder = self._folder(upload_id)
            folder.mkdir(mode=0o700, exist_ok=True)
            content.path.replace(folder / row.id)
            session.add(row)
        return row

    def cancel(self, upload_id: str) -> UploadRow:
        """Give an upload up and drop its parts.

        Raises:
            UploadError: It is no longer pending.
        """
        with self._store.write() as session:
            row = _pending(session, upload_id)
            row.status = "cancelled"
        shutil.rmtree(self._folder(upload_id), ignore_errors=True)
        return row

    def complete(
        self,
        upload_id: str,
        part_ids: Sequence[str],
        *,
        md5: str | None,
        check: Callable[[Path, str], str | None],
    ) -> tuple[UploadRow, FileRow]:
        """Join the parts in the given order to a file. `check(path, purpose)` says what is wrong with it, if anything.

        Raises:
            UploadError: Unknown parts, another number of bytes or another md5 than announced.
        """
        with self._store.read() as session:
            row = _pending(session, upload_id)
            paths = self._part_paths(session, row, part_ids)
        with Incoming(self._store.incoming) as incoming:
            join(paths, into=incoming)
            content = incoming.finish()
            _check_md5(content.path, md5)
            details = check(content.path, row.purpose)
            with self._store.write() as session:
                row = _pending(session, upload_id)
                new = NewFile(
                    filename=row.filename,
                    purpose=row.purpose,
                    lifetime_s=row.file_lifetime_s,
                    status_details=details,
                )
                file = insert(session, content, new, blobs=self._store.blobs)
                session.flush()
                row.status, row.file_id = "completed", file.id
        shutil.rmtree(self._folder(upload_id), ignore_errors=True)
        return row, file

    def _folder(self, upload_id: str) -> Path:
        return self._store.uploads / upload_id

    def _part_paths(self, session: Session, row: UploadRow, part_ids: Sequence[str]) -> list[Path]:
        sizes = {part.id: part.bytes for part in session.scalars(select(PartRow).where(PartRow.upload_id == row.id))}
        unknown = next((part for part in part_ids if part not in sizes), None)
        if unknown is not None:
            raise UploadError(f"The upload has no part '{unknown[:80]}'.")
        if len(set(part_ids)) != len(part_ids):
            raise UploadError("A part is named twice in part_ids.")
        total = sum(sizes[part] for part in part_ids)
        if total != row.bytes:
            raise UploadError(f"The parts have {total} bytes in all, but {row.bytes} bytes were announced.")
        return [self._folder(row.id) / part for part in part_ids]


def _pending(session: Session, upload_id: str) -> UploadRow:
    row = session.get(UploadRow, upload_id)
    if row is None:
        raise UploadError(f"There is no upload '{upload_id[:80]}'.")
    status = "expired" if row.status == "pending" and row.expires_at <= now() else row.status
    if status != "pending":
        raise UploadError(f"The upload is {status}; only a pending one can be changed.")
    return row


def _check_md5(path: Path, md5: str | None) -> None:
    if md5 is None:
        return
    found = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            found.update(data)
    if found.hexdigest() != md5.lower():
        raise UploadError("The md5 of the joined parts is another one than given.")
