"""Sending datasets: exactly the bytes that were checked, and only once."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, cast

from ftclient.data import Dataset
from ftclient.errors import BackendError, DataError
from ftclient.hosts import Host
from ftclient.jobs.journal import Journal
from ftclient.jobs.upload_parts import PURPOSE, Progress, same_content, upload_in_parts
from ftclient.wire import checked_file, checked_items, errors_of

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import FileObject

PROCESSING = frozenset({"uploaded", "pending", "running", "processing", "queued"})
"""Statuses of a file that the host is still reading (Azure's among them); any other is an end."""
PATIENCE_S = 1800.0
"""How long a host may read a file; the official client's own limit."""

Reuse = Callable[["FileObject"], bool]
"""Asked whether a file that somebody else uploaded may be used, once it is known to have the same bytes."""


def upload(
    openai: OpenAI,
    host: Host,
    dataset: Dataset,
    *,
    journal: Journal,
    progress: Progress | None = None,
    reuse: Reuse | None = None,
) -> str:
    """Return the id of a file at `host` that holds `dataset`, sending it only if the host has it no more.

    A file that has arrived is known from then on: who is interrupted while the host reads it waits for the same one.

    Args:
        openai: The official client.
        host: Whose limits hold.
        dataset: What to send.
        journal: Where earlier uploads are remembered.
        progress: Told about every piece that was sent.
        reuse: Asked about a file of the same bytes that this home has not uploaded; None sends the bytes again.

    Raises:
        DataError: The host could not process the file, or it was changed while it was sent.
        UnsupportedError: The file is too large for the host.
        BackendError: The host refused or failed.
    """
    file = _known(openai, host, dataset, journal)
    if file is not None:
        return file.id
    file = (_elsewhere(openai, host, dataset, reuse) if reuse else None) or _send(
        openai, host, dataset, journal=journal, progress=progress
    )
    _keep(journal, str(openai.base_url), dataset, file)
    file = wait_processed(openai, host, file)
    _accept(file, dataset, host)
    return file.id


def wait_processed(openai: OpenAI, host: Host, file: FileObject) -> FileObject:
    """Return the file once the host has read it, well or not.

    Raises:
        BackendError: The host has not come to an end within half an hour, or failed.
    """
    deadline, pause_s = time.monotonic() + PATIENCE_S, 0.5
    while file.status in PROCESSING:
        if time.monotonic() > deadline:
            raise BackendError(f"{host.title} has been reading {file.id} for half an hour. Try again later.")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 10.0)
        with errors_of(host):
            file = checked_file(openai.files.retrieve(file.id), host)
    return file


def _send(openai: OpenAI, host: Host, dataset: Dataset, *, journal: Journal, progress: Progress | None) -> FileObject:
    if dataset.size_bytes > host.max_file_bytes:
        host.require("uploads", f"take a file of {dataset.size_bytes / 1e6:,.0f} MB")
        return upload_in_parts(openai, host, dataset, journal=journal, progress=progress)
    return _in_one(openai, host, dataset, progress)


def _keep(journal: Journal, base_url: str, dataset: Dataset, file: FileObject) -> None:
    """Remember a file that has arrived; only then is an upload in parts that has become it forgotten."""
    journal.keep_upload(base_url, dataset.sha256, PURPOSE, file_id=file.id)
    begun = journal.begun_parts(base_url, dataset.sha256)
    if begun is not None:
        journal.end_parts(begun.upload_id)


def _elsewhere(openai: OpenAI, host: Host, dataset: Dataset, reuse: Reuse) -> FileObject | None:
    """Return a file of the same bytes that the host lists, under whatever name, if it may be used."""
    try:
        with errors_of(host):
            listed = list(checked_items(openai.files.list(purpose=PURPOSE, limit=1000), host))
    except BackendError:
        return None  # who may not look uses nobody else's file
    alike = (file for file in listed if file.bytes == dataset.size_bytes and file.status != "error")
    return next((file for file in alike if _is_same(openai, host, file, dataset) and reuse(file)), None)


def _is_same(openai: OpenAI, host: Host, file: FileObject, dataset: Dataset) -> bool:
    """Whether a file has the same bytes; what cannot be read is not known to."""
    try:
        return same_content(openai, host, file, dataset.sha256)
    except BackendError:
        return False


def _known(openai: OpenAI, host: Host, dataset: Dataset, journal: Journal) -> FileObject | None:
    """Return the file that these bytes became before, once the host has read it; None if it is of no use any more."""
    from openai import NotFoundError

    file_id = journal.uploaded(str(openai.base_url), dataset.sha256, PURPOSE)
    if file_id is None:
        return None
    with errors_of(host):
        try:
            file = checked_file(openai.files.retrieve(file_id), host)
        except NotFoundError:
            return None
    file = wait_processed(openai, host, file)
    return file if file.status != "error" and _has_size(file, dataset) else None


def _has_size(file: FileObject, dataset: Dataset) -> bool:
    """Whether a file is as long as the dataset; some hosts do not say how long theirs are."""
    return file.bytes is None or file.bytes == dataset.size_bytes


def _in_one(openai: OpenAI, host: Host, dataset: Dataset, progress: Progress | None) -> FileObject:
    # The official client repeats a POST that was not answered; the key keeps that from making two files.
    headers = {"Idempotency-Key": f"file-{uuid.uuid4().hex}"}
    with dataset.open() as stream, errors_of(host):
        body = _Watched(stream, dataset.size_bytes, progress)
        sent = (dataset.name, cast("IO[bytes]", body))
        file = checked_file(openai.files.create(file=sent, purpose=PURPOSE, extra_headers=headers), host)
    try:
        dataset.refuse_other(body.sha256)
    except DataError as error:
        raise DataError(f"{error} {_taken_back(openai, host, file)}") from error
    return file


def _taken_back(openai: OpenAI, host: Host, file: FileObject) -> str:
    """Delete a file of bytes that were not checked, and return what has become of it."""
    try:
        with errors_of(host):
            openai.files.delete(file.id)
    except BackendError:
        return f"What was sent could not be taken back: {file.id} at {host.title}."
    return f"What was sent has been deleted at {host.title}."


def _accept(file: FileObject, dataset: Dataset, host: Host) -> None:
    if file.status == "error":
        raise DataError(f"{host.title} could not process the file: {file.status_details or 'no reason was given'}")
    if not _has_size(file, dataset):
        raise BackendError(
            f"{host.title} holds {file.bytes:,} bytes of {file.id}, but {dataset.size_bytes:,} were sent. Try again."
        )


class _Watched(io.BufferedIOBase):
    """A stream that tells how much of it has been read, and what; it rewinds for a repeated request."""

    def __init__(self, stream: IO[bytes], total_bytes: int, progress: Progress | None) -> None:
        super().__init__()
        self._stream, self._total_bytes, self._progress = stream, total_bytes, progress
        self._digest, self._n_hashed = hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        """The hash of what was read since it began at the start for the last time."""
        return self._digest.hexdigest()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        at = self._stream.tell()
        piece = self._stream.read(-1 if size is None else size)
        if at == 0:
            self._digest, self._n_hashed = hashlib.sha256(), 0
        if at == self._n_hashed:
            self._digest.update(piece)
            self._n_hashed += len(piece)
        if self._progress and piece:
            self._progress(self._stream.tell(), self._total_bytes)
        return piece

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
