"""Sending datasets: exactly the bytes that were checked, and only once."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final, cast

from ftclient.data import Dataset
from ftclient.errors import BackendError, DataError
from ftclient.hosts import Host
from ftclient.jobs.journal import Journal
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import FileObject

PURPOSE: Final = "fine-tune"
PART_BYTES = 64 * 1024 * 1024
"""Largest part of an upload that OpenAI takes."""

Progress = Callable[[int, int], None]
"""Called with bytes sent and bytes in all."""


def upload(
    openai: OpenAI, host: Host, dataset: Dataset, *, journal: Journal, name: str, progress: Progress | None = None
) -> str:
    """Return the id of a file at `host` that holds `dataset`, sending it only if the host has it no more.

    Args:
        openai: The official client.
        host: Whose limits hold.
        dataset: What to send.
        journal: Where earlier uploads are remembered.
        name: The file's name at the host.
        progress: Told about every piece that was sent.

    Raises:
        DataError: The host could not process the file.
        UnsupportedError: The file is too large for the host.
        BackendError: The host refused or failed.
    """
    base_url = str(openai.base_url)
    known = journal.uploaded(base_url, dataset.sha256, PURPOSE)
    if known and _still_there(openai, host, known, dataset.size_bytes):
        return known
    with errors_of(host):
        if dataset.size_bytes > host.max_file_bytes:
            host.require("uploads", f"take a file of {dataset.size_bytes / 1e6:,.0f} MB")
            file = _in_parts(openai, dataset, name, progress)
        else:
            file = _in_one(openai, dataset, name, progress)
    _accept(file, dataset, host)
    journal.keep_upload(base_url, dataset.sha256, PURPOSE, file_id=file.id)
    return file.id


def _still_there(openai: OpenAI, host: Host, file_id: str, size_bytes: int) -> bool:
    from openai import NotFoundError

    with errors_of(host):
        try:
            file = openai.files.retrieve(file_id)
        except NotFoundError:
            return False
    return file.status != "error" and file.bytes == size_bytes


def _in_one(openai: OpenAI, dataset: Dataset, name: str, progress: Progress | None) -> FileObject:
    with dataset.open() as stream:
        body = _Counted(stream, dataset.size_bytes, progress)
        # The official client repeats a POST that was not answered; the key keeps that from making two files.
        headers = {"Idempotency-Key": f"file-{uuid.uuid4().hex}"}
        return openai.files.create(file=(name, cast("IO[bytes]", body)), purpose=PURPOSE, extra_headers=headers)


def _in_parts(openai: OpenAI, dataset: Dataset, name: str, progress: Progress | None) -> FileObject:
    begun = openai.uploads.create(
        bytes=dataset.size_bytes, filename=name, mime_type="application/jsonl", purpose=PURPOSE
    )
    digest = hashlib.md5(usedforsecurity=False)  # the API's own check against damage on the way
    part_ids, sent = [], 0
    with dataset.open() as stream:
        while piece := stream.read(PART_BYTES):
            digest.update(piece)
            part_ids.append(openai.uploads.parts.create(begun.id, data=piece).id)
            sent += len(piece)
            if progress:
                progress(sent, dataset.size_bytes)
    done = openai.uploads.complete(begun.id, part_ids=part_ids, md5=digest.hexdigest())
    if done.file is None:
        raise BackendError(f"Upload {begun.id} ended {done.status!r} without a file. Try again.")
    return done.file


def _accept(file: FileObject, dataset: Dataset, host: Host) -> None:
    if file.status == "error":
        raise DataError(f"{host.title} could not process the file: {file.status_details or 'no reason was given'}")
    if file.bytes != dataset.size_bytes:
        raise BackendError(
            f"{host.title} holds {file.bytes:,} bytes of {file.id}, but {dataset.size_bytes:,} were sent. Try again."
        )


class _Counted(io.BufferedIOBase):
    """A stream that tells how much of it has been read; it rewinds for a repeated request."""

    def __init__(self, stream: IO[bytes], total_bytes: int, progress: Progress | None) -> None:
        super().__init__()
        self._stream, self._total_bytes, self._progress = stream, total_bytes, progress

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        piece = self._stream.read(-1 if size is None else size)
        if self._progress and piece:
            self._progress(self._stream.tell(), self._total_bytes)
        return piece

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
