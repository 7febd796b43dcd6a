"""Weights on their way in and out: download of base models, export of any model as a tar stream."""

from __future__ import annotations

import json
import queue
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from local_backend.api.backend import Backend, Here
from local_backend.api.bodies import Body
from local_backend.api.errors import ApiError, error_body, to_api_error
from local_backend.models import resolve
from local_backend.names import random_text
from local_backend.store.blobs import CHUNK_BYTES

_TELL_EVERY_S = 0.1

router = APIRouter(prefix="/v1/local/models")


class PullBody(Body):
    """Which base model to fetch."""

    model: str


@router.post("/pull")
def pull(body: PullBody, here: Here) -> StreamingResponse:
    """Fetch a base model; the answer is a line of JSON for each piece of progress, then `done` or `error`."""
    name = resolve(body.model, settings=here.settings)
    lines = (json.dumps(item).encode() + b"\n" for item in _pull(here, name))
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/{model:path}/export")
def export(
    model: str,
    here: Here,
    format: Literal["adapter", "merged", "gguf"] = "adapter",  # noqa: A002 - the name on the wire
    quantisation: Literal["f16", "q8_0", "q4_0"] = "q8_0",
) -> StreamingResponse:
    """Write a model in a format of other programs and send its folder as a tar stream."""
    ref = here.find_model(model)
    if here.engine_of(model) != "torch":
        raise ApiError("The simulated engine has no weights to export.", param="model", code="export_not_supported")
    from local_backend.engine.exports.export import export as write_export

    folder = here.store.incoming / random_text(24)
    try:
        write_export(ref, here.settings, form=format, to=folder, name=model, quantisation=quantisation)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _FolderStream(folder)


class _FolderStream(StreamingResponse):
    """A folder as a tar stream; whatever ends it, a client that hangs up before it begins too, the folder goes."""

    media_type = "application/x-tar"

    def __init__(self, folder: Path) -> None:
        super().__init__(_tar(folder))
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(shutil.rmtree, self._folder, ignore_errors=True)


def _pull(here: Backend, name: str) -> Iterator[dict[str, Any]]:
    """Yield progress while a thread fetches; a client that hangs up does not stop it, as it can be resumed."""
    if here.settings.engine != "torch":
        yield {"done": True, "model": name, "sha256": None, "path_hidden": True}
        return
    items: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_fetch, args=(here, name, items), name="ftclient-pull", daemon=True).start()
    told_at = 0.0
    while True:
        item = items.get()
        is_last = "file" not in item
        if is_last or item["done_bytes"] == item["total_bytes"] or time.monotonic() - told_at > _TELL_EVERY_S:
            told_at = time.monotonic()
            yield item
        if is_last:
            return


def _fetch(here: Backend, name: str, items: queue.SimpleQueue[dict[str, Any]]) -> None:
    from local_backend.engine.weights import ensure

    def progress(file: str, done_bytes: int, total_bytes: int | None) -> None:
        items.put({"file": file, "done_bytes": done_bytes, "total_bytes": total_bytes})

    try:
        found = ensure(name, here.settings, progress)
    except Exception as error:  # noqa: BLE001 - the answer has begun: its last line says what went wrong
        items.put(error_body(to_api_error(error)))
    else:
        items.put({"done": True, "model": found.name, "sha256": found.sha256, "path_hidden": True})


def _tar(folder: Path) -> Iterator[bytes]:
    """Yield a folder as a tar archive, piece by piece."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        header = tarfile.TarInfo(str(path.relative_to(folder)))
        header.size, header.mtime, header.mode = path.stat().st_size, int(path.stat().st_mtime), 0o644
        yield header.tobuf(tarfile.PAX_FORMAT)
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                yield data
        yield b"\0" * (-header.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
