"""The approaches that train: a job each, found again by the next call, and run again where its model was deleted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from ftclient.approaches.wishes import ApproachName, Wishes
from ftclient.data import Dataset
from ftclient.errors import BackendError, FtclientError, JobNotFoundError
from ftclient.evaluate.task import Task
from ftclient.hosts import Host
from ftclient.jobs.follow import ENDED
from ftclient.jobs.local_options import Full, Head, LocalOptions, LoRA, Tune
from ftclient.jobs.methods import Supervised
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.jobs.job import Job

_TUNES: dict[ApproachName, Tune] = {"head": Head(), "lora": LoRA(), "full": Full()}
_MOST_TRIES = 20
_LISTING = ("openai", "azure")
"""Hosts that are known to list tuned models until they are deleted."""

_Key = TypeVar("_Key")
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What an approach trained."""

    model: str
    job_id: str
    seconds: float
    cost_usd: Decimal | None
    """None where the host's price is not known."""
    trained_tokens: int | None
    may_be_gone: bool = field(default=False, compare=False)
    """An earlier call has trained it, and this one has not looked whether it is still there."""


def why_not(host: Host, name: ApproachName, task: Task) -> str | None:
    """Say why training so makes no sense for a task at a host; None if it does."""
    if name in {"head", "full"} and not host.is_local:
        return f"{host.title} does not offer it."
    if name == "head" and task.kind != "labels":
        return f"It is for classification; here {task.reason}."
    return None


def plan(client: Client, name: ApproachName, train: Dataset, *, model: str, wishes: Wishes) -> Plan:
    """Return the plan of an approach's job.

    Raises:
        FtclientError: The data or the host do not allow it.
    """
    local = LocalOptions(tune=_TUNES[name], task="classify" if name == "head" else "chat")
    return client.plan(
        train,
        model=model,
        valid=wishes.valid,
        method=Supervised(n_epochs=wishes.n_epochs or "auto", batch_size=wishes.batch_size or "auto"),
        local=local if client.host.is_local else None,
        suffix=f"compare-{name}",
        seed=wishes.seed,
    )


def run(
    client: Client,
    name: ApproachName,
    planned: Plan,
    *,
    follow: Callable[[Job], FineTuningJob],
    tell: Callable[[str], None],
    skip_deleted: bool = False,
) -> Trained:
    """Start the job, or find the one that an earlier call started, and wait for its end.

    Args:
        client: Where it is trained.
        name: The approach.
        planned: The job.
        follow: Waits for the end.
        tell: Told in words which models are gone.
        skip_deleted: An earlier job whose model was deleted does not count; the next one takes its place.

    Raises:
        JobFailedError: It failed.
    """
    from ftclient.jobs.job import failure

    is_gone = partial(_is_told_deleted, client, tell=tell) if skip_deleted else None
    job, had_ended = _job(client, planned, _run_id(client, name, planned), is_gone=is_gone)
    ended = follow(job)
    if ended.status != "succeeded" or not ended.fine_tuned_model:
        raise failure(ended)
    return Trained(
        model=ended.fine_tuned_model,
        job_id=ended.id,
        seconds=float((ended.finished_at or ended.created_at) - ended.created_at),
        cost_usd=Decimal(0) if client.host.is_local else planned.cost_usd,
        trained_tokens=ended.trained_tokens,
        may_be_gone=had_ended and not skip_deleted,
    )


def ask_trained(
    client: Client,
    trained: Mapping[_Key, Trained],
    ask: Callable[[Mapping[_Key, Trained]], _Made],
    *,
    again: Callable[[_Key], Trained],
) -> _Made:
    """Ask the trained models; if one of an earlier call that has to answer was deleted since, train it again first.

    Nothing is trained where all answers are at hand, nor at hosts that may not list tuned models at all, nor in place
    of what this call has trained: nobody has agreed to two jobs.

    Args:
        client: Where they are asked.
        trained: The models.
        ask: Asks them; asked again, it finds the answers that it has had.
        again: Trains what the key names again.

    Raises:
        BackendError: A model does not answer, for whatever other reason, or not even the new one does.
    """
    try:
        return ask(trained)
    except BackendError as error:
        is_missed = error.status_code == HTTPStatus.NOT_FOUND
        missed = [key for key, each in trained.items() if is_missed and each.may_be_gone]
        gone = [key for key in missed if _is_deleted(client, trained[key].model)]
        if not gone:
            raise
    return ask({**trained, **{key: again(key) for key in gone}})


def _job(client: Client, planned: Plan, run_id: str, *, is_gone: Callable[[str], bool] | None) -> tuple[Job, bool]:
    """Return the job of this run id; where it came to nothing or is gone, that of the next one.

    With it, whether it had ended before this call.
    """
    for number in range(1, _MOST_TRIES + 1):
        found = _standing(client, planned, run_id if number == 1 else f"{run_id}-{number}", is_gone=is_gone)
        if found is not None:
            return found
    raise FtclientError(f"{_MOST_TRIES} jobs of this comparison came to nothing; `ftclient jobs` shows why.")


def _standing(
    client: Client, planned: Plan, run_id: str, *, is_gone: Callable[[str], bool] | None
) -> tuple[Job, bool] | None:
    try:
        job = client.train(planned, run_id=run_id)
        had_ended = job.latest is not None and job.latest.status in ENDED
        latest = job.refresh()
    except JobNotFoundError:
        return None
    except BackendError as error:
        if error.code != "idempotency_key_reused":
            raise
        return None  # somebody with another home compares the same there
    came_to_nothing = latest.status in {"failed", "cancelled"}
    model = latest.fine_tuned_model
    is_deleted = is_gone is not None and model is not None and is_gone(model)
    return None if came_to_nothing or is_deleted else (job, had_ended)


def _is_told_deleted(client: Client, model: str, *, tell: Callable[[str], None]) -> bool:
    is_deleted = _is_deleted(client, model)
    if is_deleted:
        tell(f"{model} was deleted; a new model takes its place.")
    return is_deleted


def _is_deleted(client: Client, model: str) -> bool:
    """Whether a host that lists tuned models has this one no more."""
    host = client.host
    if not host.is_local and host.name not in _LISTING:
        return False
    try:
        with errors_of(host):
            client.openai.models.retrieve(model)
    except BackendError as error:
        return error.status_code == HTTPStatus.NOT_FOUND
    return False


def _run_id(client: Client, name: ApproachName, planned: Plan) -> str:
    request = planned.request
    what = {
        "host": str(client.openai.base_url),
        "approach": name,
        "model": planned.model,
        "train": request.train.sha256,
        "valid": request.valid.sha256 if request.valid else None,
        "method": request.method.model_dump(mode="json"),
        "local": request.local.body() if request.local else None,
        "seed": request.seed,
    }
    return "compare-" + hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]
