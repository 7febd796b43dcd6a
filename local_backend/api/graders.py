"""`/v1/fine_tuning/alpha/graders`: graders are tried on one answer, or looked at for what is wrong with them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError

from ftclient.data.halves import without_halves
from ftclient.errors import MissingDependencyError, UnsupportedError
from ftclient.evaluate.graders import (
    Grader,
    Means,
    ModelQuestion,
    ModelReply,
    Multi,
    PythonGrader,
    Sample,
    grade,
    parse_grader,
    require_sandbox,
)
from local_backend.api.backend import Backend, Here
from local_backend.api.bodies import Body
from local_backend.api.chat_requests import CreateChat
from local_backend.api.errors import ApiError, to_api_error, validation_error

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders")

_MOST_ANSWER_TOKENS = 512
"""How long a model that grades may go on, where the grader does not say."""
_GRADER_TYPES = frozenset({"string_check", "text_similarity", "score_model", "label_model", "python"})


class ValidateBody(Body):
    """Which grader to look at."""

    grader: dict[str, Any]


class RunBody(Body):
    """Which grader to run on which answer."""

    grader: dict[str, Any]
    model_sample: Annotated[str, Field(max_length=10_000_000)]
    item: dict[str, Any] | None = None


@router.post("/validate")
def validate(body: ValidateBody) -> JSONResponse:
    """Answer with the grader if it can work, else with 400 and what is wrong."""
    _parse(body.grader)
    return JSONResponse(without_halves({"grader": body.grader}))


@router.post("/run")
def run(body: RunBody, here: Here) -> JSONResponse:
    """Grade one answer. What goes wrong in grading is in the answer's metadata, with a reward of 0."""
    grader = _parse(body.grader)
    try:
        means = Means(ask=lambda question: _ask(here, question))
        found = grade(grader, sample=Sample(text=body.model_sample), item=body.item, means=means)
    except UnsupportedError as error:
        raise ApiError(str(error), param="grader", code="python_grader_not_supported") from error
    except MissingDependencyError as error:
        text = f"The server needs further packages for this grader. Install them with: {error}"
        raise ApiError(text, param="grader", code="grader_not_available") from error
    return JSONResponse(without_halves(found.to_json(grader)))


def _parse(value: dict[str, Any]) -> Grader:
    try:
        grader = parse_grader(value)
    except ValidationError as error:
        raise validation_error([_placed(each) for each in error.errors()]) from error
    except ValueError as error:
        raise ApiError(f"{error}.", param="grader.type", code="invalid_value") from error
    parts = grader.graders.values() if isinstance(grader, Multi) else [grader]
    if any(isinstance(part, PythonGrader) for part in parts):
        try:
            require_sandbox()
        except UnsupportedError as error:
            raise ApiError(str(error), param="grader", code="python_grader_not_supported") from error
    return grader


def _placed(error: Any) -> dict[str, Any]:
    """The error of a field, at its place in the body; the types of graders are no part of it."""
    return {**error, "loc": ("grader", *(part for part in error["loc"] if part not in _GRADER_TYPES))}


def _ask(here: Backend, question: ModelQuestion) -> ModelReply:
    """Ask a model of this server. Fields that it cannot obey fail as they do in chat completions."""
    options = {name: value for name, value in question.options.items() if name != "reasoning_effort"}
    fields = {"temperature": 0.0, "max_completion_tokens": _MOST_ANSWER_TOKENS, **options}
    body = CreateChat.model_validate({"model": question.model, "messages": list(question.messages), **fields})
    try:
        answer = here.engine(body.model).chat(here.find_model(body.model), body.to_request())
        pieces = list(answer.deltas)
    except Exception as error:
        raise RuntimeError(to_api_error(error).message) from error
    n_tokens = answer.n_prompt_tokens + sum(piece.n_tokens for piece in pieces)
    return ModelReply(text="".join(piece.text for piece in pieces), n_tokens=n_tokens)
