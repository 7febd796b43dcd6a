"""`/v1/models`, and which projects may use a checkpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import Field

from local_backend.api.backend import Backend, Here
from local_backend.api.bodies import Body
from local_backend.api.errors import ApiError, model_not_found, not_found
from local_backend.models import CATALOGUE, forget, stored
from local_backend.names import ORGANIZATION, is_id, is_tuned
from local_backend.store.models import ModelInUseError
from local_backend.store.paging import Page
from local_backend.store.tables import PermissionRow

_PUBLISHED_AT = 1_730_419_200
"""2024-11-01: base models carry one date, for which the API has no better source."""

router = APIRouter(prefix="/v1/models")
permissions = APIRouter(prefix="/v1/fine_tuning/checkpoints")


class NewPermissions(Body):
    """The projects that are to be allowed."""

    project_ids: Annotated[list[str], Field(min_length=1)]


@router.get("")
def list_models(here: Here) -> JSONResponse:
    """List base models, aliases, tuned models and checkpoints."""
    names = dict.fromkeys([*CATALOGUE, *(source.name for source in stored(settings=here.settings))])
    bases = [_show(name, owner=_owner(name)) for name in names]
    aliases = [_show(name, owner="alias") for name in here.settings.aliases if name not in CATALOGUE]
    tuned = [_show(row.id, owner=ORGANIZATION, created=row.created) for row in here.models.all()]
    return JSONResponse({"object": "list", "data": [*bases, *aliases, *tuned]})


@router.get("/{model:path}")
def retrieve(model: str, here: Here) -> JSONResponse:
    """Return one model."""
    here.find_model(model)
    row = here.models.get(model)
    if row is not None:
        return JSONResponse(_show(row.id, owner=ORGANIZATION, created=row.created))
    owner = "alias" if model in here.settings.aliases else _owner(model)
    return JSONResponse(_show(model, owner=owner))


@router.delete("/{model:path}")
def delete(model: str, here: Here) -> JSONResponse:
    """Delete a tuned model with its files, or the downloaded weights of a base model."""
    if is_tuned(model):
        _delete_tuned(model, here)
    else:
        ref = here.find_model(model)
        if ref.tuned_dir is not None:
            text = f"{model} is a folder that was not made here: delete it where it lies, or take its alias away."
            raise ApiError(text, param="model", code="model_not_deletable")
        _forget_weights(ref.base, here)
    return JSONResponse({"id": model, "object": "model", "deleted": True})


@permissions.post("/{checkpoint}/permissions")
def create_permissions(checkpoint: str, body: NewPermissions, here: Here) -> JSONResponse:
    """Allow projects the use of a checkpoint."""
    here.find_model(checkpoint)
    rows = here.permissions.add(checkpoint, body.project_ids)
    return JSONResponse(_show_permissions(Page(rows, has_more=False)))


@permissions.get("/{checkpoint}/permissions")
def list_permissions(
    checkpoint: str,
    here: Here,
    project_id: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    order: Literal["ascending", "descending"] = "descending",
) -> JSONResponse:
    """List a checkpoint's permissions."""
    here.find_model(checkpoint)
    newest_first = order == "descending"
    page = here.permissions.page(checkpoint, project_id=project_id, after=after, limit=limit, newest_first=newest_first)
    return JSONResponse(_show_permissions(page))


@permissions.delete("/{checkpoint}/permissions/{permission_id}")
def delete_permission(checkpoint: str, permission_id: str, here: Here) -> JSONResponse:
    """Take a permission back."""
    if not is_id(permission_id, "cp_") or not here.permissions.delete(checkpoint, permission_id):
        raise not_found("Permission", permission_id)
    return JSONResponse({"id": permission_id, "object": "checkpoint.permission", "deleted": True})


def _delete_tuned(model: str, here: Backend) -> None:
    try:
        found = here.models.delete(model)
    except ModelInUseError as error:
        raise ApiError(str(error), param="model", code="model_in_use") from error
    if not found:
        raise model_not_found(model)


def _forget_weights(base: str, here: Backend) -> None:
    """Free the room that a base model takes; it is fetched again when it is next used.

    Raises:
        ApiError: A job needs it, or it is not here.
    """
    for job in here.jobs.unfinished():
        if here.find_model(job.model).base == base:
            text = f"Job {job.id} still needs {base}. Wait for its end, or cancel it."
            raise ApiError(text, param="model", code="model_in_use")
    if here.settings.engine != "torch" or not forget(base, settings=here.settings):
        text = f"{base} is a base model of which no weights are on this machine: there is nothing to delete."
        raise ApiError(text, param="model", code="model_not_deletable")


def _owner(name: str) -> str:
    known = CATALOGUE.get(name)
    hub_id = known.hub_id if known else name
    return hub_id.split("/")[0] if "/" in hub_id and not hub_id.startswith("/") else "local"


def _show(name: str, *, owner: str, created: int = _PUBLISHED_AT) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner, "shutdown_date": None}


def _show_permissions(page: Page[PermissionRow]) -> dict[str, Any]:
    data = [
        {
            "id": row.id,
            "object": "checkpoint.permission",
            "created_at": row.created_at,
            "project_id": row.project_id,
        }
        for row in page.rows
    ]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": page.has_more}
