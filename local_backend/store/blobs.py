"""Contents on disk, named by their sha256: written whole or not at all, each content once."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from typing_extensions import Self

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Content:
    """A content that has arrived in full and lies, fsynced, in a file of its own until it is kept or dropped."""

    path: Path
    sha256: str
    n_bytes: int


class Incoming:
    """Takes bytes piece by piece into a temporary file; use as a context manager.

    Unless `finish` was called and the content was kept, the file is gone at the end.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / secrets.token_hex(16)
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.n_bytes = 0

    def __enter__(self) -> Self:
        """Open the temporary file."""
        self._file = self._path.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the temporary file unless it has found its place."""
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append to the content."""
        assert self._file is not None  # noqa: S101 - only inside the with block
        self._file.write(data)
        self._hash.update(data)
        self.n_bytes += len(data)

    def finish(self) -> Content:
        """Bring the bytes to disk and say what they are."""
        assert self._file is not None  # noqa: S101 - only inside the with block
        self._file.flush()
        os.fsync(self._file.fileno())
        return Content(self._path, self._hash.hexdigest(), self.n_bytes)


def blob_path(folder: Path, sha256: str) -> Path:
    """Where a content lies."""
    return folder / sha256


def keep(content: Content, *, folder: Path) -> Path:
    """Move a content to its place; one that is there already stays as it is."""
    target = blob_path(folder, content.sha256)
    if not target.exists():
        content.path.replace(target)
        sync_folder(folder)
    return target


def join(paths: Iterable[Path], *, into: Incoming) -> None:
    """Append the contents of files, one after the other."""
    for path in paths:
        with path.open("rb") as part:
            while data := part.read(CHUNK_BYTES):
                into.write(data)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Replace a small file: after a crash it has the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
