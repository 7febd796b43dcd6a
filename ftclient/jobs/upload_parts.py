"""Large files in parts: several at once, and after a crash or a dropped line only those that are missing.

The upload and each part that has arrived are in the journal. The next call for the same bytes reads the file once more
from its start, for the md5 of the whole, but sends only parts that the journal does not know.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ftclient.data import Dataset
from ftclient.errors import BackendError, DataError, RateLimitError, UnavailableError
from ftclient.hosts import Host
from ftclient.jobs.journal import Journal, PartedUpload
from ftclient.wire import checked, checked_file, checked_items, errors_of, retry_after_s

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI
    from openai.types import FileObject, Upload

Progress = Callable[[int, int], None]
"""Called with bytes sent and bytes in all."""

PURPOSE: Final = "fine-tune"
PART_BYTES = 16 * 1024 * 1024
"""Size of a part: small enough that little is lost with one. OpenAI takes parts of up to 64 MB."""
_MOST_PARTS: Final = 128
"""So many 64 MB parts make OpenAI's largest upload of 8 GB; whether it takes more parts is not said."""
_AT_ONCE: Final = 4
PAUSES_S: tuple[float, ...] = (0.5, 2.0, 8.0, 30.0)
"""Waits between tries of one part, beside the official client's own."""
SILENCE_S = 120.0
"""A part over which the line is silent for so long is sent again; the official client would wait for ten minutes."""
_LAST_MINUTE_S: Final = 60.0
"""An upload that expires sooner is not gone on with."""


def upload_in_parts(
    openai: OpenAI, host: Host, dataset: Dataset, *, journal: Journal, progress: Progress | None = None
) -> FileObject:
    """Return the file that `dataset` has become at `host`.

    An upload that the journal knows is gone on with; where the host has forgotten it, a new one is begun. The journal
    knows it until the caller ends it there, with the file's id safe.

    Raises:
        DataError: The file was changed while it was sent.
        BackendError: The host refused or failed. What has arrived is kept, and the next call goes on from there.
    """
    base_url = str(openai.base_url)
    begun = journal.begun_parts(base_url, dataset.sha256)
    if begun is not None:
        if begun.expires_at > time.time() + _LAST_MINUTE_S:
            try:
                return _Sending(openai, host, dataset, journal, begun, progress).run()
            except BackendError as error:
                if error.status_code not in (400, 404):
                    raise
        journal.end_parts(begun.upload_id)
    fresh = _begin(openai, host, dataset)
    journal.begin_parts(base_url, dataset.sha256, fresh)
    try:
        return _Sending(openai, host, dataset, journal, fresh, progress).run()
    except BackendError as error:
        if error.status_code in (400, 404):  # the host will not have it: damaged on the way, or expired
            journal.end_parts(fresh.upload_id)
        raise


def same_content(openai: OpenAI, host: Host, file: FileObject, sha256: str) -> bool:
    """Whether a file at the host has exactly these bytes; it is read to find out, as names and sizes prove nothing."""
    digest = hashlib.sha256()
    with errors_of(host), openai.files.with_streaming_response.content(file.id) as answer:
        for block in answer.iter_bytes(1 << 20):
            digest.update(block)
    return digest.hexdigest() == sha256


def _begin(openai: OpenAI, host: Host, dataset: Dataset) -> PartedUpload:
    with errors_of(host):
        made = openai.uploads.create(
            bytes=dataset.size_bytes, filename=dataset.name, mime_type="application/jsonl", purpose=PURPOSE
        )
        made = checked(made, host, expires_at=(int, float), created_at=(int, float))
    return PartedUpload(
        upload_id=made.id,
        part_bytes=max(PART_BYTES, -(-dataset.size_bytes // _MOST_PARTS)),
        expires_at=float(made.expires_at),
        begun_at=float(made.created_at),
        parts={},
    )


@dataclass
class _Sending:
    """One run over the file: all parts that are missing, then the end of the upload."""

    openai: OpenAI
    host: Host
    dataset: Dataset
    journal: Journal
    begun: PartedUpload
    progress: Progress | None
    sent_bytes: int = 0
    part_ids: dict[int, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for parts any more."""

    def run(self) -> FileObject:
        """Send what is missing and return the file."""
        md5, sha256 = self._send_parts()
        try:
            self.dataset.refuse_other(sha256)
        except DataError as error:
            self._give_up()
            raise DataError(f"{error} No file has been made of what was sent.") from error
        return self._finish(md5)

    def _give_up(self) -> None:
        """Let go of parts of which some have other bytes than were checked."""
        self.journal.end_parts(self.begun.upload_id)
        with suppress(BackendError), errors_of(self.host):
            self.openai.uploads.cancel(self.begun.upload_id)

    def _send_parts(self) -> tuple[str, str]:
        """Send all missing parts, some at once, and return the md5 and the sha256 of all that was read."""
        md5 = hashlib.md5(usedforsecurity=False)  # the API's own check against damage on the way
        sha256 = hashlib.sha256()
        under_way: set[Future[None]] = set()
        try:
            with self.dataset.open() as stream:
                number = 0
                while piece := stream.read(self.begun.part_bytes):
                    md5.update(piece)
                    sha256.update(piece)
                    if number in self.begun.parts:
                        self._arrived(number, self.begun.parts[number], len(piece))
                    else:
                        under_way.add(_in_background(self._send, number, piece))
                    under_way = _room(under_way)
                    number += 1
            while under_way:
                under_way = _room(under_way, most=1)
        except BaseException as error:
            self.is_over.set()
            if isinstance(error, Exception):  # parts on their way may arrive; who presses Ctrl-C does not wait for them
                wait(under_way)
            raise
        return md5.hexdigest(), sha256.hexdigest()

    def _send(self, number: int, piece: bytes) -> None:
        impatient = self.openai.with_options(timeout=_impatient(self.openai.timeout))
        for pause_s in (*PAUSES_S, None):
            try:
                with errors_of(self.host):
                    part = checked(impatient.uploads.parts.create(self.begun.upload_id, data=piece), self.host)
                break
            except (UnavailableError, RateLimitError) as error:
                if pause_s is None or self.is_over.wait(retry_after_s(error) or pause_s):
                    raise
        self.journal.keep_part(self.begun.upload_id, number, part.id)
        self._arrived(number, part.id, len(piece))

    def _arrived(self, number: int, part_id: str, n_bytes: int) -> None:
        with self.lock:
            self.part_ids[number] = part_id
            self.sent_bytes += n_bytes
            if self.progress and not self.is_over.is_set():
                self.progress(self.sent_bytes, self.dataset.size_bytes)

    def _finish(self, md5: str) -> FileObject:
        """Let the host join the parts; where its answer is lost, look for the file that it has made."""
        for pause_s in (*PAUSES_S, None):
            try:
                done = self._complete(md5)
            except BackendError as error:
                found = self._joined()
                if found is not None:
                    return found
                if pause_s is None or not isinstance(error, UnavailableError | RateLimitError):
                    raise
                time.sleep(retry_after_s(error) or pause_s)
                continue
            if done.file is None:
                raise BackendError(f"Upload {done.id} ended {done.status!r} without a file. Try again.")
            return done.file
        raise AssertionError  # the last try returns or raises

    def _complete(self, md5: str) -> Upload:
        ordered = [self.part_ids[number] for number in sorted(self.part_ids)]
        once = self.openai.with_options(max_retries=0)  # a repeated end of an upload that has ended is refused
        with errors_of(self.host):
            done = checked(once.uploads.complete(self.begun.upload_id, part_ids=ordered, md5=md5), self.host)
            if done.file is not None:
                checked_file(done.file, self.host)
            return done

    def _joined(self) -> FileObject | None:
        """Return the file that an unanswered request has made, if it has; the host is asked, and its bytes compared."""
        try:
            with errors_of(self.host):
                listed = list(checked_items(self.openai.files.list(purpose=PURPOSE, limit=100), self.host))
            for file in listed:
                is_alike = file.bytes == self.dataset.size_bytes and file.created_at >= int(self.begun.begun_at)
                if is_alike and same_content(self.openai, self.host, file, self.dataset.sha256):
                    return file
        except BackendError:
            return None  # what went wrong before is what is told
        return None


def _impatient(usual: float | httpx2.Timeout | None) -> httpx2.Timeout:
    """Return the client's own timeouts, none of them longer than a silence may last."""
    import httpx2

    own = httpx2.Timeout(usual).as_dict().items()
    return httpx2.Timeout(**{name: SILENCE_S if wait_s is None else min(wait_s, SILENCE_S) for name, wait_s in own})


def _in_background(send: Callable[[int, bytes], None], number: int, piece: bytes) -> Future[None]:
    """Send a part in a thread of its own; unlike those of an executor, it keeps no program from ending."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            send(number, piece)
            future.set_result(None)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            future.set_exception(error)

    threading.Thread(target=run, name=f"upload-{number}", daemon=True).start()
    return future


def _room(under_way: set[Future[None]], *, most: int = _AT_ONCE) -> set[Future[None]]:
    """Wait until fewer than `most` are under way, and let failures be heard."""
    while len(under_way) >= most:
        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        for each in done:
            each.result()
    return under_way
