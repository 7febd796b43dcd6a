"""`/v1/files`: what is trained on and what training leaves behind."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from local_backend.api.backend import Backend, Here, idempotency
from local_backend.api.errors import ApiError, not_found
from local_backend.api.multipart import Form, read_form
from local_backend.names import is_id
from local_backend.store.blobs import CHUNK_BYTES, Content, Incoming
from local_backend.store.files import NewFile
from local_backend.store.tables import FileRow
from local_backend.validation import NotJsonlError, jsonl_problem

MAX_FILE_BYTES = 512 * 1024 * 1024
"""OpenAI's limit for one request; larger files come in parts."""

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MIN_LIFETIME_S, MAX_LIFETIME_S = 3600, 2_592_000
"""An hour to thirty days (OpenAI's FileExpirationAfter)."""

router = APIRouter(prefix="/v1/files")


def show(row: FileRow) -> dict[str, Any]:
    """A file as the API returns it; what is not set is left out, since the published schema allows no null there."""
    optional = {"expires_at": row.expires_at, "status_details": row.status_details}
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        **{name: value for name, value in optional.items() if value is not None},
    }


@router.post("")
async def create(request: Request, here: Here) -> JSONResponse:
    """Store an uploaded file."""
    with Incoming(here.store.incoming) as incoming:
        form = await read_form(request, file_field="file", into=incoming, max_bytes=MAX_FILE_BYTES)
        return JSONResponse(await run_in_threadpool(_keep, request, here, form, incoming))


@router.get("")
def list_files(
    here: Here,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> JSONResponse:
    """List the files, newest first unless asked otherwise."""
    page = here.files.page(purpose=purpose, after=after, limit=limit, newest_first=order == "desc")
    data = [show(row) for row in page.rows]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return JSONResponse({"object": "list", "data": data, **ends, "has_more": page.has_more})


@router.get("/{file_id}")
def retrieve(file_id: str, here: Here) -> JSONResponse:
    """Return one file's facts."""
    return JSONResponse(show(find(here, file_id)))


@router.delete("/{file_id}")
def delete(file_id: str, here: Here) -> JSONResponse:
    """Delete a file. Jobs that are under way keep what they need of it."""
    find(here, file_id)
    here.files.delete(file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


@router.get("/{file_id}/content")
def content(file_id: str, here: Here, encoding: Literal["base64", "plain"] = "base64") -> Response:
    """Return a file's bytes. Result files come in base64, as hosted ones do, unless `encoding=plain`."""
    row = find(here, file_id)
    path = here.files.stored_path(row)
    if row.purpose == "fine-tune-results" and encoding == "base64":
        return Response(base64.b64encode(path.read_bytes()), media_type="application/octet-stream")
    headers = {"content-length": str(row.bytes)}
    return StreamingResponse(_chunks(path), media_type="application/octet-stream", headers=headers)


def find(here: Backend, file_id: str) -> FileRow:
    """Return a file.

    Raises:
        ApiError: 404, there is none.
    """
    row = here.files.get(file_id) if is_id(file_id, "file-") else None
    if row is None:
        raise not_found("File", file_id)
    return row


def purpose_of(text: str | None) -> str:
    """Return a purpose that files may be created with.

    Raises:
        ApiError: It is missing or none of OpenAI's.
    """
    if text is None:
        raise ApiError("Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter")
    if text not in PURPOSES:
        raise ApiError(
            f"'{text[:80]}' is not one of {list(PURPOSES)} - 'purpose'", param="purpose", code="invalid_value"
        )
    return text


def lifetime_of(anchor: str | None, seconds: str | None) -> int | None:
    """Return how long a file lives, in seconds; None: until it is deleted.

    Raises:
        ApiError: The anchor or the number is not allowed.
    """
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise ApiError(
            "'expires_after.anchor' must be 'created_at'.", param="expires_after.anchor", code="invalid_value"
        )
    is_number = re.fullmatch("[0-9]{1,9}", seconds or "") is not None
    if seconds is None or not is_number or not MIN_LIFETIME_S <= int(seconds) <= MAX_LIFETIME_S:
        text = f"'expires_after.seconds' must be a whole number from {MIN_LIFETIME_S} to {MAX_LIFETIME_S}."
        raise ApiError(text, param="expires_after.seconds", code="invalid_value")
    return int(seconds)


def content_problem(path: Path, purpose: str) -> str | None:
    """Return what is wrong inside a training file; None if nothing is, or it is another kind of file.

    Raises:
        ApiError: It is no JSONL at all.
    """
    if purpose != "fine-tune":
        return None
    try:
        return jsonl_problem(path)
    except NotJsonlError as error:
        raise ApiError(str(error)) from error


def _keep(request: Request, here: Backend, form: Form, incoming: Incoming) -> dict[str, Any]:
    purpose = purpose_of(form.fields.get("purpose"))
    lifetime_s = lifetime_of(form.fields.get("expires_after[anchor]"), form.fields.get("expires_after[seconds]"))
    arrived = incoming.finish()
    new = NewFile(
        filename=str(form.filename),
        purpose=purpose,
        lifetime_s=lifetime_s,
        status_details=content_problem(arrived.path, purpose),
    )
    return here.files.add(arrived, new, show=show, request=idempotency(request, body_sha256=_body_sha256(arrived, new)))


def _body_sha256(arrived: Content, new: NewFile) -> str:
    parts = [arrived.sha256, new.filename, new.purpose, new.lifetime_s]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data
