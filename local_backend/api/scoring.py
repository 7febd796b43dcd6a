"""`/v1/local/models/{model}` and `/v1/local/score`: which weights a name means, and how likely they find an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from local_backend.api.backend import Here
from local_backend.api.bodies import Body
from local_backend.api.local import refuse_unsound
from local_backend.engine.generation.stamp import digest
from local_backend.models.names import looks_like_path
from local_backend.task import ModelRef

router = APIRouter(prefix="/v1/local")


class ScoreBody(Body):
    """Which answers to score."""

    model: str
    examples: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=256)]


@router.post("/score")
def score(body: ScoreBody, here: Here) -> JSONResponse:
    """Say for each example's last answer how likely the model finds it: log-probability (natural) and tokens."""
    for example in body.examples:
        here.files.put_images(example)
        refuse_unsound(example, method="supervised")
    scores = here.engine(body.model).score(here.find_model(body.model), body.examples)
    return JSONResponse(
        {"model": body.model, "scores": [{"logprob": one.logprob, "n_tokens": one.n_tokens} for one in scores]}
    )


@router.get("/models/{model:path}")
def identity(model: str, here: Here) -> JSONResponse:
    """Say which weights a name means now: the base model, its weights' sum, what runs it, and whether it classifies.

    Of folders that can be written anew under the same name, `files_sha256` tells one state of the files from another.
    """
    ref = here.find_model(model)
    folders = _rewritable(ref)
    engine = here.engine(model)
    tuned = ref.tuned_dir.stat() if ref.tuned_dir is not None else None
    return JSONResponse(
        {
            "model": model,
            "base": ref.base,
            "engine": here.engine_of(model),
            "base_sha256": engine.base_sha256(ref),
            "tuned_at_ns": tuned.st_mtime_ns if tuned else None,
            "is_classifier": engine.is_classifier(ref),
            **({"files_sha256": digest(*folders)} if folders else {}),
        }
    )


def _rewritable(ref: ModelRef) -> list[Path]:
    """The folders of a model that are no base model of the cache."""
    base = [Path(ref.base)] if looks_like_path(ref.base) and Path(ref.base).is_dir() else []
    return base if ref.tuned_dir is None else [*base, ref.tuned_dir]
