"""`/v1/local/plan`: what a job would take, without creating it."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from local_backend.api.backend import Backend, Here
from local_backend.api.errors import error_body, to_api_error
from local_backend.api.job_requests import CreateJob
from local_backend.api.jobs import new_job
from local_backend.engine.schedule import resolve_rate
from local_backend.models import CATALOGUE
from local_backend.store.jobs import NewJob
from local_backend.task import Forecast, Hyperparameters, MeasureProgress, Task
from local_backend.validation import count_examples, epochs_rule, n_steps, resolve

_LINES = "application/x-ndjson"

router = APIRouter(prefix="/v1/local")


@router.post("/plan")
def plan(body: CreateJob, here: Here, request: Request) -> Response:
    """Say what a job would take.

    The first plan for a model measures the machine, which takes some seconds. Whoever accepts lines of JSON is told how
    that comes along ({"done", "of", "what"}), before the last line brings the plan ({"plan"}) or an `error`.
    """
    new = new_job(here, body)
    task = _task_of(here, new, n_examples=count_examples(here.files.path(new.training)))
    if _LINES in request.headers.get("accept", ""):
        lines = (json.dumps(item).encode() + b"\n" for item in _told(here, new, task))
        return StreamingResponse(lines, media_type=_LINES)
    return JSONResponse(_answer(new, task, here.engine(new.model).forecast(task)))


def _told(here: Backend, new: NewJob, task: Task) -> Iterator[dict[str, Any]]:
    """Yield progress while a thread makes the plan, and then the plan."""
    items: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def progress(done: int, of: int, what: str) -> None:
        items.put({"done": done, "of": of, "what": what})

    threading.Thread(target=_make, args=(here, new, task, items, progress), name="ftclient-plan", daemon=True).start()
    while True:
        item = items.get()
        yield item
        if "done" not in item:
            return


def _make(
    here: Backend, new: NewJob, task: Task, items: queue.SimpleQueue[dict[str, Any]], progress: MeasureProgress
) -> None:
    try:
        found = _answer(new, task, here.engine(new.model).forecast(task, progress))
    except Exception as error:  # noqa: BLE001 - the answer has begun: its last line says what went wrong
        items.put(error_body(to_api_error(error)))
    else:
        items.put({"plan": found})


def _answer(new: NewJob, task: Task, forecast: Forecast) -> dict[str, Any]:
    numbers = task.hyperparameters
    n_examples = forecast.n_examples
    given = new.hyperparameters.get("n_epochs", "auto")
    return {
        "model": new.model,
        "n_examples": n_examples,
        "tokens_per_epoch": forecast.tokens_per_epoch,
        "loss_tokens_per_epoch": forecast.loss_tokens_per_epoch,
        "longest_example_tokens": forecast.longest_example_tokens,
        "context_tokens": forecast.context_tokens,
        "sample": _sample(forecast),
        "n_epochs": numbers.n_epochs,
        "epochs_rule": epochs_rule(given, n_examples=n_examples),
        "batch_size": numbers.batch_size,
        "learning_rate": _learning_rate(task),
        "learning_rate_multiplier": numbers.learning_rate_multiplier,
        "n_steps": n_steps(n_examples, n_epochs=numbers.n_epochs, batch_size=numbers.batch_size),
        "time_s": forecast.time_s,
        "memory_bytes": forecast.memory_bytes,
        "energy_kwh": forecast.energy_kwh,
        **forecast.choices,
        "memory": dict(forecast.memory),
        "time": dict(forecast.time),
        "notes": list(forecast.notes),
    }


def _sample(forecast: Forecast) -> dict[str, Any] | None:
    """How tokens are estimated; None: they are counted."""
    if forecast.n_sampled is None:
        return None
    return {"n_examples": forecast.n_sampled, "tokens_deviation": forecast.tokens_deviation}


def _task_of(here: Backend, new: NewJob, *, n_examples: int) -> Task:
    return Task(
        job_id="plan",
        model=here.find_model(new.model),
        method="dpo" if new.method == "dpo" else "supervised",
        training_path=here.files.path(new.training),
        validation_path=here.files.path(new.validation) if new.validation else None,
        hyperparameters=Hyperparameters(**resolve(dict(new.hyperparameters), new.method, n_examples=n_examples)),
        seed=new.seed,
        local=new.local,
        work_dir=here.store.incoming,
    )


def _learning_rate(task: Task) -> float | None:
    """The absolute rate of a task; None where the size of the model is not known beforehand."""
    known = CATALOGUE.get(task.model.base)
    if known is None and task.local["learning_rate"] is None:
        return None
    n_parameters = known.n_parameters if known else 0
    multiplier = task.hyperparameters.learning_rate_multiplier
    return resolve_rate(task.local, multiplier=multiplier, n_parameters=n_parameters, method=task.method)
