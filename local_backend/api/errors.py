"""Error answers in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, all four always there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from local_backend.room import is_no_room
from local_backend.store import StoreError
from local_backend.store.answers import KeyReusedError
from local_backend.store.jobs import WrongStatusError
from local_backend.store.paging import UnknownCursorError
from local_backend.task import JobError, UserError

_NOT_AGAIN = {"x-should-retry": "false"}
"""Official clients retry 409 and 5xx unless they are told that it is no use."""


_ROOMS = (
    *("files", "uploads", "fine_tuning/jobs", "fine_tuning/checkpoints", "fine_tuning/alpha/graders", "models"),
    *("chat/completions", "local"),
)
"""What there is, for who asks for something else."""


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind
        self.headers = headers

    def response(self) -> JSONResponse:
        """The HTTP answer."""
        return JSONResponse(error_body(self), status_code=self.status, headers=dict(self.headers or {}))


def error_body(error: ApiError) -> dict[str, Any]:
    """The JSON body of an error answer."""
    fields = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    return {"error": fields}


def not_found(kind: str, given: str) -> ApiError:
    """The 404 for an id, in OpenAI's words: `No such File object: file-abc`."""
    return ApiError(f"No such {kind} object: {given[:80]}", status=404, param="id")


def model_not_found(model: str) -> ApiError:
    """The 404 for a model's name, in OpenAI's words."""
    return ApiError(
        f"The model '{model[:120]}' does not exist or you do not have access to it.",
        status=404,
        param="model",
        code="model_not_found",
    )


def disk_full() -> ApiError:
    """There is no room; nothing was kept."""
    return ApiError(
        "There is no space left on the server's disk; nothing was stored. Free some and try again.",
        status=507,
        code="insufficient_storage",
        kind="server_error",
        headers=_NOT_AGAIN,
    )


def install(app: FastAPI) -> None:
    """Let every error of the app leave in OpenAI's shape."""
    app.add_exception_handler(ApiError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    for kind in (UserError, JobError, KeyReusedError, WrongStatusError, UnknownCursorError, StoreError, OSError):
        app.add_exception_handler(kind, _answer)


def _answer(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
        error = _no_such_url(request)
    return to_api_error(error).response()


def _no_such_url(request: Request) -> ApiError:
    """The 404 for an address, in OpenAI's words, with what there is instead."""
    text = (
        f"Invalid URL ({request.method} {request.url.path[:80]}). This server answers below /v1/: {', '.join(_ROOMS)}."
    )
    return ApiError(text, status=404)


def to_api_error(error: Exception) -> ApiError:  # noqa: PLR0911 - one line a kind of error
    """Translate what the layers below raise."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return validation_error(error.errors())
    if isinstance(error, UserError | JobError):
        return ApiError(error.message, param=error.param, code=error.code)
    if isinstance(error, KeyReusedError):
        text = "This Idempotency-Key was used with another request body; use a new key."
        return ApiError(text, code="idempotency_key_reused")
    if isinstance(error, WrongStatusError):
        return ApiError(_wrong_status_text(error), code="invalid_job_status")
    if isinstance(error, UnknownCursorError):
        return ApiError(f"Nothing in this list has the id '{str(error)[:80]}'.", status=404, param="after")
    if isinstance(error, HTTPException):
        return ApiError(str(error.detail), status=error.status_code, headers=error.headers)
    if is_no_room(error):
        return disk_full()
    text = str(error) if isinstance(error, StoreError) else f"The server failed: {type(error).__name__}."
    return ApiError(text, status=500, kind="server_error")


def _wrong_status_text(error: WrongStatusError) -> str:
    if error.reason is not None:
        return f"Job {error.job_id} is {error.status} and cannot go on: {error.reason}"
    if error.status in ("succeeded", "failed", "cancelled"):
        return f"Job {error.job_id} has already ended: {error.status}."
    return f"Job {error.job_id} is {error.status}; this cannot be done now."


_WANTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "int_parsing": "an integer",
    "float_parsing": "a number",
}

_BOUNDS = {
    "greater_than_equal": ("below_min_value", "below minimum value", ">=", "ge"),
    "greater_than": ("below_min_value", "below minimum value", ">", "gt"),
    "less_than_equal": ("above_max_value", "above maximum value", "<=", "le"),
    "less_than": ("above_max_value", "above maximum value", "<", "lt"),
}

_JSON_TYPES = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "an array"}


def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """Turn the first thing that pydantic found wrong into a 400 that names the field.

    Of a union's members, the complaint that lies deepest is the one about what the user meant.
    """
    first = max(errors, key=lambda error: _rank(error, errors))
    param = param_of(first["loc"])
    kind = str(first["type"])
    if kind == "value_error":
        return ApiError(f"{first['ctx']['error']}.", param=param or None, code="invalid_value")
    if kind != "json_invalid" and not param:
        return ApiError("The body must be a JSON object, sent with 'Content-Type: application/json'.")
    if kind == "missing":
        return ApiError(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if kind == "extra_forbidden":
        return ApiError(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    if kind == "json_invalid":
        return ApiError("We could not parse the JSON body of your request.", code=None)
    if kind in _WANTED:
        given = _JSON_TYPES.get(type(first.get("input")), "null" if first.get("input") is None else "an object")
        wanted = _WANTED[kind] + _or_word(first, errors)
        text = f"Invalid type for '{param}': expected {wanted}, but got {given} instead."
        return ApiError(text, param=param, code="invalid_type")
    if kind in _BOUNDS:
        return _bound_error(first, param)
    text = first["msg"]
    if kind == "union_tag_invalid":
        param, text = f"{param}.type", f"expected one of {first['ctx']['expected_tags']}"
    return ApiError(f"Invalid value for '{param}': {text}.", param=param, code="invalid_value")


def _rank(error: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> tuple[int, bool, bool, int]:
    """How much an error says about the field that the first one is about."""
    field, place = _fields(errors[0]["loc"]), _fields(error["loc"])
    depth = len(place) if place[: len(field)] == field else -1
    return depth, error["type"] in _BOUNDS, error["type"] != "literal_error", -errors.index(error)


def _or_word(error: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> str:
    """The word that is allowed in place of a number, if one is: ` or 'auto'`."""
    place = _fields(error["loc"])
    words = [other["ctx"]["expected"] for other in errors if other["type"] == "literal_error" and other is not error]
    return f" or {words[0]}" if words and _fields(errors[0]["loc"]) == place else ""


def _bound_error(error: Mapping[str, Any], param: str) -> ApiError:
    code, words, sign, key = _BOUNDS[error["type"]]
    number = "integer" if isinstance(error["input"], int) else "number"
    text = (
        f"Invalid '{param}': {number} {words}. Expected a value {sign} {error['ctx'][key]}, but got {error['input']}."
    )
    return ApiError(text, param=param, code=f"{number}_{code}")


_NO_FIELDS = frozenset(
    {"body", "query", "path", "int", "float", "str", "lora", "full", "last_layers", "head"},
)
"""Where a request was read from, and which member of a union was tried: pydantic puts both into its locations."""


def _fields(location: Sequence[Any]) -> list[str | int]:
    """The fields and positions on the way to a value, without what pydantic puts between."""
    return [
        part for part in location if isinstance(part, int) or not (part in _NO_FIELDS or "[" in part or "-" in part)
    ]


def param_of(location: Sequence[Any]) -> str:
    """The name of a field as OpenAI writes it: `messages[2].content`."""
    text = ""
    for part in _fields(location):
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
