"""`/v1/uploads`: files that arrive in parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from local_backend.api.backend import Backend, Here
from local_backend.api.bodies import Body
from local_backend.api.errors import ApiError, not_found
from local_backend.api.files import MAX_LIFETIME_S, MIN_LIFETIME_S, content_problem, purpose_of
from local_backend.api.files import show as show_file
from local_backend.api.multipart import read_form
from local_backend.names import is_id
from local_backend.store.blobs import Incoming
from local_backend.store.tables import FileRow, PartRow, UploadRow
from local_backend.store.uploads import NewUpload, UploadError

MAX_UPLOAD_BYTES = 8 * 1024**3
MAX_PART_BYTES = 64 * 1024**2
"""OpenAI's limits: 8 GB in all, 64 MB a part."""

router = APIRouter(prefix="/v1/uploads")


class ExpiresAfter(Body):
    """When a file is to go."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S)


class CreateUpload(Body):
    """The body of a new upload."""

    bytes: Annotated[int, Field(ge=0, le=MAX_UPLOAD_BYTES)]
    filename: Annotated[str, Field(min_length=1)]
    mime_type: str
    purpose: str
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Body):
    """The body that ends an upload."""

    part_ids: list[str]
    md5: str | None = None


def show(row: UploadRow, file: FileRow | None = None) -> dict[str, Any]:
    """An upload as the API returns it."""
    return {
        "id": row.id,
        "object": "upload",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "file": show_file(file) if file else None,
    }


@router.post("")
def create(body: CreateUpload, here: Here) -> JSONResponse:
    """Announce a file that will come in parts."""
    new = NewUpload(
        n_bytes=body.bytes,
        filename=body.filename,
        purpose=purpose_of(body.purpose),
        mime_type=body.mime_type,
        file_lifetime_s=body.expires_after.seconds if body.expires_after else None,
    )
    return JSONResponse(show(here.uploads.create(new)))


@router.post("/{upload_id}/parts")
async def add_part(upload_id: str, request: Request, here: Here) -> JSONResponse:
    """Store one part."""
    await run_in_threadpool(_find, here, upload_id)
    with Incoming(here.store.incoming) as incoming:
        await read_form(request, file_field="data", into=incoming, max_bytes=MAX_PART_BYTES)
        try:
            part = await run_in_threadpool(here.uploads.add_part, upload_id, incoming.finish())
        except UploadError as error:
            raise _refused(error) from error
    return JSONResponse(_show_part(part))


@router.post("/{upload_id}/complete")
def complete(upload_id: str, body: CompleteUpload, here: Here) -> JSONResponse:
    """Join the parts to a file."""
    _find(here, upload_id)
    try:
        row, file = here.uploads.complete(upload_id, body.part_ids, md5=body.md5, check=content_problem)
    except UploadError as error:
        raise _refused(error) from error
    return JSONResponse(show(row, file))


@router.post("/{upload_id}/cancel")
def cancel(upload_id: str, here: Here) -> JSONResponse:
    """Give an upload up."""
    _find(here, upload_id)
    try:
        return JSONResponse(show(here.uploads.cancel(upload_id)))
    except UploadError as error:
        raise _refused(error) from error


def _find(here: Backend, upload_id: str) -> UploadRow:
    row = here.uploads.get(upload_id) if is_id(upload_id, "upload_") else None
    if row is None:
        raise not_found("Upload", upload_id)
    return row


def _refused(error: UploadError) -> ApiError:
    return ApiError(str(error))


def _show_part(part: PartRow) -> dict[str, Any]:
    return {"id": part.id, "object": "upload.part", "created_at": part.created_at, "upload_id": part.upload_id}
