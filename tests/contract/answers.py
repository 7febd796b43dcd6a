"""Whether an answer is what OpenAI's contract says: by the types of the official client, and by the published schema.

Deviations of the real API from its own documentation are named here, one by one, and nowhere else.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import openai.types as t
import openai.types.fine_tuning as ft
from openai.types import chat
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse
from openai.types.fine_tuning.checkpoints import PermissionCreateResponse, PermissionDeleteResponse
from openai.types.fine_tuning.checkpoints import PermissionRetrieveResponse as PermissionPage
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.uploads import UploadPart
from pydantic import BaseModel, TypeAdapter, create_model

NO_ERROR = {"code": None, "message": None, "param": None}
BEYOND = {
    ft.FineTuningJob: {"user_provided_suffix", "usage_metrics", "shared_with_openai", "finished_at"},
    PermissionCreateResponse: {"object"},
}
"""Fields that the real API returns and its types do not name."""


def page_of(item: type[BaseModel], *, with_ends: bool = False) -> type[BaseModel]:
    """The envelope of a list, which the client's own page types leave open."""
    ends: dict[str, Any] = {"first_id": (str | None, ...), "last_id": (str | None, ...)} if with_ends else {}
    return create_model(
        f"PageOf{item.__name__}", object=(str, ...), data=(list[item], ...), has_more=(bool, ...), **ends
    )


class ModelList(BaseModel):
    """`GET /models` never pages."""

    object: str
    data: list[t.Model]


JOB = ft.FineTuningJob
TYPES: list[tuple[str, str, type[BaseModel]]] = [
    ("POST", r"/files", t.FileObject),
    ("GET", r"/files", page_of(t.FileObject, with_ends=True)),
    ("GET", r"/files/[^/]+", t.FileObject),
    ("DELETE", r"/files/[^/]+", t.FileDeleted),
    ("POST", r"/uploads", t.Upload),
    ("POST", r"/uploads/[^/]+/parts", UploadPart),
    ("POST", r"/uploads/[^/]+/(complete|cancel)", t.Upload),
    ("POST", r"/fine_tuning/jobs", JOB),
    ("GET", r"/fine_tuning/jobs", page_of(JOB)),
    ("GET", r"/fine_tuning/jobs/[^/]+", JOB),
    ("POST", r"/fine_tuning/jobs/[^/]+/(cancel|pause|resume)", JOB),
    ("GET", r"/fine_tuning/jobs/[^/]+/events", page_of(ft.FineTuningJobEvent)),
    ("GET", r"/fine_tuning/jobs/[^/]+/checkpoints", page_of(FineTuningJobCheckpoint, with_ends=True)),
    ("GET", r"/fine_tuning/checkpoints/[^/]+/permissions", PermissionPage),
    ("POST", r"/fine_tuning/checkpoints/[^/]+/permissions", page_of(PermissionCreateResponse, with_ends=True)),
    ("DELETE", r"/fine_tuning/checkpoints/[^/]+/permissions/[^/]+", PermissionDeleteResponse),
    ("POST", r"/fine_tuning/alpha/graders/run", GraderRunResponse),
    ("POST", r"/fine_tuning/alpha/graders/validate", GraderValidateResponse),
    ("GET", r"/models", ModelList),
    ("GET", r"/models/.+", t.Model),
    ("DELETE", r"/models/.+", t.ModelDeleted),
    ("POST", r"/chat/completions", chat.ChatCompletion),
]


def check_answer(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Assert that one JSON answer is as documented. Paths are below `/v1`; our own under `/local` are not judged."""
    assert headers.get("x-request-id"), f"{method} {path} has no x-request-id"
    if path.startswith("/local/") or path.endswith("/content"):
        return
    data = json.loads(body)
    if status >= 400:
        assert set(data) == {"error"}, data
        assert set(data["error"]) == {"message", "type", "param", "code"}, data
        assert data["error"]["message"], data
        return
    model = type_of(method, path)
    assert model is not None, f"no type for {method} {path}"
    documented = without_deviations(data)
    check_type(model, documented)
    check_schema(method, path, documented)


def check_chunk(chunk: BaseModel) -> None:
    """Assert that one piece of a stream is as documented."""
    data = chunk.to_dict(mode="json")  # type: ignore[attr-defined]
    check_type(chat.ChatCompletionChunk, data)
    if spec() is not None:
        validate({"$ref": "#/components/schemas/CreateChatCompletionStreamResponse"}, data)


def type_of(method: str, path: str) -> type[BaseModel] | None:
    """The type of an endpoint's answer."""
    matching = (kind for verb, pattern, kind in TYPES if verb == method and re.fullmatch(pattern, path))
    return next(matching, None)


def check_type(model: type[BaseModel], data: Any) -> None:
    """Assert that the data are of the type, without conversions and without fields beyond it."""
    value = TypeAdapter(model).validate_json(json.dumps(data), strict=True)
    unknown = list(unknown_fields(value))
    assert not unknown, f"{model.__name__} has undocumented fields: {unknown}"


def unknown_fields(value: Any) -> Any:
    """Yield the names of fields that no type mentions."""
    if isinstance(value, list):
        for item in value:
            yield from unknown_fields(item)
    if isinstance(value, BaseModel):
        yield from set(value.model_extra or {}) - BEYOND.get(type(value), set())
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name))


def without_deviations(data: Any) -> Any:
    """Return the data as documentation would have it, where the real API is known to differ."""
    data = deepcopy(data)
    if isinstance(data, dict) and data.get("data") == []:
        data |= {name: "" for name in ("first_id", "last_id") if name in data}  # an empty list has null ends
    items = data["data"] if isinstance(data, dict) and isinstance(data.get("data"), list) else [data]
    for item in items:
        if item.get("object") == "fine_tuning.job":
            document_job(item)
        if item.get("object") == "fine_tuning.job.event" and item["data"] is None:
            del item["data"]  # "Fine-tuning job started" has null
        if item.get("object") == "file" and item.get("purpose") == "evals":
            item["purpose"] = "user_data"  # a purpose of creation that the type of the answer lacks
    return data


def document_job(job: dict[str, Any]) -> None:
    """A job that is healthy carries an error of nulls; other methods than supervised null hyperparameters; `paused`."""
    if job["error"] == NO_ERROR:
        job["error"] = None
    if job["hyperparameters"] is None:
        assert job["method"]["type"] != "supervised"
        job["hyperparameters"] = {}
    if job["status"] in ("paused", "pausing"):
        job["status"] = "running"


@functools.cache
def spec() -> dict[str, Any] | None:
    """OpenAI's published OpenAPI file, where FTCLIENT_OPENAPI says where it is."""
    path = os.environ.get("FTCLIENT_OPENAPI")
    return as_json_schema(json.loads(Path(path).read_text())) if path else None


def check_schema(method: str, path: str, data: Any) -> None:
    """Assert that the data are valid by the published file, if it is at hand."""
    found = spec()
    if found is None:
        return
    template = next(known for known in found["paths"] if re.fullmatch(pattern_of(known), path))
    content = found["paths"][template][method.lower()]["responses"]["200"]["content"]
    validate(content["application/json"]["schema"], data)


def pattern_of(template: str) -> str:
    """A path with `{parameters}` as a regular expression; a model's name may hold slashes."""
    return re.sub(r"\{model\}", ".+", template) if "{model}" in template else re.sub(r"\{\w+\}", "[^/]+", template)


def validate(schema: Mapping[str, Any], data: Any) -> None:
    """Validate by a schema that refers into the published file."""
    found = spec()
    assert found is not None
    jsonschema.Draft202012Validator({**schema, "components": found["components"]}).validate(data)


def as_json_schema(node: Any) -> Any:
    """Turn OpenAPI 3.0's `nullable` and boolean `exclusiveMinimum`, which the file still has, into JSON Schema."""
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: as_json_schema(value) for key, value in node.items()}
    if node.get("exclusiveMinimum") is True:
        node["exclusiveMinimum"] = node.pop("minimum")
    if node.pop("nullable", False) is True:
        return {"anyOf": [node, {"type": "null"}]}
    return node
