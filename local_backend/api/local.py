"""`/v1/local`: what only this server can do. See the SDK's `LocalOptions` for what a job may ask for beyond OpenAI."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from ftclient.data.check import check_examples
from ftclient.data.limits import LOCAL_LIMITS
from ftclient.errors import DataError
from local_backend.api.backend import Backend, Here
from local_backend.api.bodies import Body
from local_backend.api.errors import ApiError
from local_backend.api.files import find as find_file
from local_backend.api.jobs import find
from local_backend.simulated import allow_steps
from local_backend.store.checkpoints import resume_point
from local_backend.store.tables import JobRow
from local_backend.validation import check

_STEP_WAIT_S = 10.0

router = APIRouter(prefix="/v1/local")


class CheckBody(Body):
    """Which file to check, for which model and method."""

    training_file: str
    model: str
    method: Literal["supervised", "dpo", "reinforcement"] = "supervised"


class RenderBody(Body):
    """Which example to show as the trainer sees it."""

    model: str
    example: dict[str, Any]
    method: Literal["supervised", "dpo"] = "supervised"


class StepBody(Body):
    """How far a job is to go on."""

    n: Annotated[int, Field(ge=1, le=1_000_000)] = 1


@router.post("/check")
def check_data(body: CheckBody, here: Here) -> JSONResponse:
    """Check a file with the model's own tokenizer; the answer is the report's JSON."""
    row = find_file(here, body.training_file)
    report = check(
        here.files.path(row), here.find_model(body.model), method=body.method, engine=here.engine(body.model)
    )
    return JSONResponse(report.to_json())


@router.post("/render")
def render(body: RenderBody, here: Here) -> JSONResponse:
    """Show an example token by token, with the weight of each in the loss."""
    here.files.put_images(body.example)
    refuse_unsound(body.example, method=body.method)
    tokens = here.engine(body.model).render(here.find_model(body.model), body.example, body.method)
    n_loss = sum(token["weight"] > 0 for token in tokens)
    return JSONResponse({"tokens": tokens, "n_tokens": len(tokens), "n_loss_tokens": n_loss})


@router.get("/jobs/{job_id}")
def job_details(job_id: str, here: Here) -> JSONResponse:
    """Say more about a job than the contract has fields for."""
    return JSONResponse(_show_details(here, find(here, job_id)))


@router.post("/jobs/{job_id}/step")
def step(job_id: str, body: StepBody, here: Here) -> JSONResponse:
    """Let a simulated job of speed `step` go on; answers once it has."""
    row = find(here, job_id)
    if row.local.get("simulate", {}).get("speed") != "step":
        raise ApiError("Only jobs with local.simulate.speed 'step' are moved by hand.", param="local.simulate.speed")
    work_dir = here.store.jobs / job_id
    target = allow_steps(work_dir, body.n)
    deadline = time.monotonic() + _STEP_WAIT_S
    while _is_behind(row, target) and time.monotonic() < deadline:
        time.sleep(0.01)
        row = find(here, job_id)
    return JSONResponse(_show_details(here, row))


def refuse_unsound(example: dict[str, Any], *, method: Literal["supervised", "dpo"]) -> None:
    """Refuse an example that no job would train on, by the rules that training files are checked with.

    Raises:
        ApiError: The text names the place and what is wrong there.
    """
    try:
        report = check_examples([example], method=method, limits=LOCAL_LIMITS, is_training=False, encoding=None)
    except DataError as error:
        raise ApiError(str(error), param="example", code="invalid_value") from error
    first = next((issue for issue in report.issues if issue.severity == "error"), None)
    if first is not None:
        text = f"The example cannot be trained on: {first.path}: {first.message}"
        raise ApiError(text, param="example", code=first.code)


def _is_behind(row: JobRow, target: int) -> bool:
    """Whether the job has yet to do the steps it was allowed; after the last one, whether it has yet to end."""
    done, total = row.progress.get("step", 0), row.progress.get("total_steps")
    return row.status in ("validating_files", "queued", "running") and (done < target or done == total)


def _show_details(here: Backend, row: JobRow) -> dict[str, Any]:
    progress = {"step": 0, "total_steps": None, "tokens_per_s": None, "elapsed_s": None, "remaining_s": None}
    point = resume_point(here.store.jobs / row.id)
    return {
        "id": row.id,
        "status": row.status,
        "engine": row.engine,
        "facts": row.facts,
        "progress": {**progress, **row.progress},
        "notes": row.notes,
        "resume_point": None if point is None else {"step": point[0], "at": point[1]},
    }
