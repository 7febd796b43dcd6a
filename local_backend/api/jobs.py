"""`/v1/fine_tuning/jobs`: create, look at and steer jobs."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from local_backend.api.backend import Backend, Here, idempotency
from local_backend.api.errors import ApiError
from local_backend.api.job_requests import CreateJob
from local_backend.models import resolve
from local_backend.names import is_id, is_tuned
from local_backend.runner import base_of
from local_backend.store.jobs import NewJob
from local_backend.store.paging import Page
from local_backend.store.sweep import sweep_job
from local_backend.store.tables import CheckpointRow, EventRow, FileRow, JobRow
from local_backend.task import UserError

METHODS: Mapping[str, tuple[str, ...]] = {"torch": ("supervised", "dpo"), "simulated": ("supervised", "dpo")}
"""What each engine trains."""

_PAUSE_WAIT_S = 2.0
"""How long the answer to a pause waits for the snapshot."""

_NO_ERROR = {"code": None, "message": None, "param": None}
"""Hosted jobs carry this while they are healthy."""

router = APIRouter(prefix="/v1/fine_tuning/jobs")
Limit = Annotated[int, Query(ge=1, le=100)]


def show(row: JobRow) -> dict[str, Any]:
    """A job as the API returns it, with the fields that the real one has beyond its documentation."""
    return {
        "id": row.id,
        "object": "fine_tuning.job",
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "estimated_finish": _estimated_finish(row),
        "model": row.model,
        "fine_tuned_model": row.fine_tuned_model,
        "organization_id": "org-local",
        "status": row.status,
        "training_file": row.training_file,
        "validation_file": row.validation_file,
        "result_files": row.result_files,
        "trained_tokens": row.trained_tokens,
        "error": row.error or _NO_ERROR,
        "hyperparameters": row.hyperparameters if row.method == "supervised" else None,
        "method": {"type": row.method, row.method: {"hyperparameters": row.hyperparameters}},
        "seed": row.seed,
        "user_provided_suffix": row.suffix,
        "usage_metrics": None,
        "shared_with_openai": False,
        "integrations": row.integrations,
        "metadata": row.job_metadata,
    }


@router.post("")
async def create(request: Request, body: CreateJob, here: Here) -> JSONResponse:
    """Create a job; it is validated and run by the runner."""
    digest = hashlib.sha256(json.dumps(await request.json(), sort_keys=True).encode()).hexdigest()
    return JSONResponse(await run_in_threadpool(_create, here, request, body, digest))


@router.get("")
def list_jobs(request: Request, here: Here, after: str | None = None, limit: Limit = 20) -> JSONResponse:
    """List the jobs, newest first. `metadata[k]=v` selects by metadata, `metadata=null` those without any."""
    page = here.jobs.page(after=after, limit=limit, metadata=_metadata_filter(request))
    return _list(page, [show(row) for row in page.rows])


@router.get("/{job_id}")
def retrieve(job_id: str, here: Here) -> JSONResponse:
    """Return a job as it is now."""
    return JSONResponse(show(find(here, job_id)))


@router.get("/{job_id}/events")
def events(job_id: str, here: Here, after: str | None = None, limit: Limit = 20) -> JSONResponse:
    """List a job's events, newest first."""
    find(here, job_id)
    page = here.jobs.events(job_id, after=after, limit=limit)
    return _list(page, [_show_event(row) for row in page.rows])


@router.get("/{job_id}/checkpoints")
def checkpoints(job_id: str, here: Here, after: str | None = None, limit: Limit = 10) -> JSONResponse:
    """List a job's usable checkpoints, newest first."""
    find(here, job_id)
    page = here.jobs.checkpoints(job_id, after=after, limit=limit)
    data = [_show_checkpoint(row) for row in page.rows]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return _list(page, data, ends)


@router.post("/{job_id}/cancel")
def cancel(job_id: str, here: Here) -> JSONResponse:
    """End a job; the checkpoints of the epochs that it has finished can be used."""
    before = find(here, job_id)
    is_at_rest = before.owner is None
    row = here.jobs.cancel(job_id, base=base_of(before.model, store=here.store, settings=here.settings))
    if is_at_rest:  # else its runner clears up once the engine has stopped
        sweep_job(here.store, job_id)
    return JSONResponse(show(row))


@router.post("/{job_id}/pause")
def pause(job_id: str, here: Here) -> JSONResponse:
    """Let a job rest with a usable snapshot; the answer waits a little for it."""
    find(here, job_id)
    row = here.jobs.pause(job_id)
    deadline = time.monotonic() + _PAUSE_WAIT_S
    while row.status == "pausing" and time.monotonic() < deadline:
        time.sleep(0.02)
        row = find(here, job_id)
    return JSONResponse(show(row))


@router.post("/{job_id}/resume")
def resume(job_id: str, here: Here) -> JSONResponse:
    """Let a job go on: a paused one, or one that failed and has a resume point."""
    find(here, job_id)
    row = here.jobs.resume(job_id)
    here.runner.ensure()
    return JSONResponse(show(row))


def find(here: Backend, job_id: str) -> JobRow:
    """Return a job.

    Raises:
        ApiError: 404, there is none.
    """
    row = here.jobs.get(job_id) if is_id(job_id, "ftjob-") else None
    if row is None:
        text = f"Could not find fine tune: {job_id[:80]}"
        raise ApiError(text, status=404, param="fine_tune_id", code="fine_tune_not_found")
    return row


def new_job(here: Backend, body: CreateJob) -> NewJob:
    """Check a request as far as that goes without reading the files.

    Raises:
        ApiError: An unknown model, file or method.
    """
    if body.method_type == "reinforcement":
        raise ApiError(
            "Reinforcement fine-tuning is not available here: use 'supervised' or 'dpo'.",
            param="method.type",
            code="unsupported_method",
        )
    engine = here.engine_of(body.model)
    if body.method_type not in METHODS[engine]:
        text = f"The {engine} engine does not train '{body.method_type}' yet: use 'supervised'."
        raise ApiError(text, param="method.type", code="unsupported_method")
    if body.local.task == "classify" and body.method_type != "supervised":
        text = f"A classifier is trained on labels, not by '{body.method_type}': use the method 'supervised'."
        raise ApiError(text, param="method.type", code="unsupported_method")
    model = _trainable(here, body.model)
    training = _training_file(here, body.training_file, "training_file")
    validation = _training_file(here, body.validation_file, "validation_file") if body.validation_file else None
    return NewJob(
        model=model,
        training=training,
        validation=validation,
        sha256s=(here.files.content(training), here.files.content(validation) if validation else None),
        method=body.method_type,
        hyperparameters=body.numbers(),
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        suffix=body.suffix,
        metadata=body.metadata,
        integrations=[item.model_dump(exclude_none=True) for item in body.integrations or []],
        local=body.local.model_dump(),
        engine=engine,
    )


def _create(here: Backend, request: Request, body: CreateJob, body_sha256: str) -> dict[str, Any]:
    repeat = idempotency(request, body_sha256=body_sha256)
    earlier = here.jobs.answered(repeat)
    if earlier is not None:
        return earlier
    answer = here.jobs.create(new_job(here, body), show=show, request=repeat)
    here.runner.ensure()
    return answer


def _trainable(here: Backend, name: str) -> str:
    """The canonical name of a model that can be tuned."""
    try:
        here.engine(name).check_model(here.find_model(name))
        return name if is_tuned(name) else resolve(name, settings=here.settings)
    except (UserError, ApiError) as error:
        text = f"Model {name[:120]} is not available for fine-tuning or does not exist. {error.message}"
        raise ApiError(text, param="model", code=error.code or "model_not_available") from error


def _training_file(here: Backend, file_id: str, param: str) -> FileRow:
    row = here.files.get(file_id) if is_id(file_id, "file-") else None
    if row is None:
        raise ApiError(f"invalid {param}: {file_id[:80]}", param=param, code="invalid_file")
    if row.purpose != "fine-tune":
        text = f"File {file_id} has the purpose '{row.purpose}', but {param} needs 'fine-tune'."
        raise ApiError(text, param=param, code="invalid_file")
    return row


def _metadata_filter(request: Request) -> Mapping[str, str] | str | None:
    query = request.query_params
    if "metadata" in query:
        if query["metadata"] == "null":
            return "null"
        text = "Invalid value for 'metadata': expected null, or pairs that are written metadata[key]=value."
        raise ApiError(text, param="metadata", code="invalid_value")
    pairs = {key[9:-1]: value for key, value in query.items() if key.startswith("metadata[") and key.endswith("]")}
    return pairs or None


def _list(page: Page[Any], data: list[dict[str, Any]], ends: Mapping[str, Any] | None = None) -> JSONResponse:
    return JSONResponse({"object": "list", "data": data, **(ends or {}), "has_more": page.has_more})


def _estimated_finish(row: JobRow) -> int | None:
    remaining_s = row.progress.get("remaining_s")
    return int(time.time() + remaining_s) if row.status == "running" and remaining_s is not None else None


def _show_event(row: EventRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "fine_tuning.job.event",
        "created_at": row.created_at,
        "level": row.level,
        "message": row.message,
        "type": row.type,
        "data": row.data,
    }


def _show_checkpoint(row: CheckpointRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": row.created_at,
        "fine_tuned_model_checkpoint": row.model,
        "fine_tuning_job_id": row.job_id,
        "step_number": row.step_number,
        "metrics": row.metrics,
    }
