"""The approaches that train: a job each, found again by the next call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from ftclient.approaches.wishes import ApproachName, Wishes
from ftclient.data import Dataset
from ftclient.errors import FtclientError, JobNotFoundError
from ftclient.evaluate.task import Task
from ftclient.hosts import Host
from ftclient.jobs.local_options import Full, Head, LocalOptions, LoRA, Tune
from ftclient.jobs.methods import Supervised

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.jobs.job import Job

_TUNES: dict[ApproachName, Tune] = {"head": Head(), "lora": LoRA(), "full": Full()}
_MOST_TRIES = 20


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What an approach trained."""

    model: str
    job_id: str
    seconds: float
    cost_usd: Decimal | None
    """None where the host's price is not known."""
    trained_tokens: int | None


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


def run(client: Client, name: ApproachName, planned: Plan, *, follow: Callable[[Job], FineTuningJob]) -> Trained:
    """Start the job, or find the one that an earlier call started, and wait for its end.

    Raises:
        JobFailedError: It failed.
    """
    from ftclient.jobs.job import failure

    job = _job(client, planned, _run_id(client, name, planned))
    ended = follow(job)
    if ended.status != "succeeded" or not ended.fine_tuned_model:
        raise failure(ended)
    return Trained(
        model=ended.fine_tuned_model,
        job_id=ended.id,
        seconds=float((ended.finished_at or ended.created_at) - ended.created_at),
        cost_usd=Decimal(0) if client.host.is_local else planned.cost_usd,
        trained_tokens=ended.trained_tokens,
    )


def _job(client: Client, planned: Plan, run_id: str) -> Job:
    """Return the job of this run id; where it came to nothing or is gone, that of the next one."""
    for number in range(1, _MOST_TRIES + 1):
        job = _standing(client, planned, run_id if number == 1 else f"{run_id}-{number}")
        if job is not None:
            return job
    raise FtclientError(f"{_MOST_TRIES} jobs of this comparison have failed; `ftclient jobs` shows why.")


def _standing(client: Client, planned: Plan, run_id: str) -> Job | None:
    try:
        job = client.train(planned, run_id=run_id)
        return job if job.refresh().status not in {"failed", "cancelled"} else None
    except JobNotFoundError:
        return None


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
