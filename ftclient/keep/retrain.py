"""The same job on an open model, on the local backend."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ftclient.data import Dataset
from ftclient.errors import BackendError, FtclientError, JobNotFoundError, UnsupportedError
from ftclient.jobs.follow import ending_of
from ftclient.jobs.methods import DPO, Supervised
from ftclient.jobs.request import new_run_id
from ftclient.keep.download import job_of
from ftclient.keep.folder import KeepFolder, safe_name

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.jobs.job import Job
    from ftclient.jobs.methods import Method


def plan_again(client: Client, folder: KeepFolder, job_id: str, *, model: str, n_epochs: int | None = None) -> Plan:
    """Return the plan of a saved job on another model.

    Data, method, epochs, batch size and seed are those of the job, unless others are given. Its learning rate is not: a
    multiple of the rate of a model that nobody has seen says nothing about this one.

    Args:
        client: Connected to the local backend.
        folder: What was saved.
        job_id: The hosted job.
        model: The open model to start from.
        n_epochs: Passes over the data; None is as many as the hosted job made. Small models need more.

    Raises:
        UnsupportedError: The job was a reinforcement one.
        FtclientError: Its training file could not be saved.
    """
    job = job_of(folder, job_id)
    return client.plan(
        training_data(folder, job),
        valid=_data(folder, job.get("validation_file")),
        model=model,
        method=_method(job, n_epochs),
        seed=job.get("seed"),
        suffix=job.get("user_provided_suffix") or None,
        metadata={"kept_from": job_id},
    )


def train_again(client: Client, plan: Plan, *, anew: bool = False) -> Job:
    """Return the job of a plan of `plan_again`: the one that runs or has run already, else a new one.

    Args:
        client: Connected to the local backend.
        plan: What to run.
        anew: Start another, whatever there is.
    """
    if anew:
        return client.train(plan, run_id=new_run_id())  # without one, an earlier launch might be taken up
    valid, train = plan.request.valid, plan.request.train
    body = plan.request.body(training_file=train.sha256, validation_file=valid.sha256 if valid else None)
    where = f"{client.openai.base_url} {json.dumps(body, sort_keys=True)}"
    name = f"keep-{hashlib.sha256(where.encode()).hexdigest()[:32]}"
    for number in itertools.count(1):
        try:
            job = client.train(plan, run_id=f"{name}-{number}")
        except JobNotFoundError:  # it has been, and somebody has let it go
            continue
        except BackendError as error:
            if error.code != "idempotency_key_reused":
                raise
            continue  # somebody with another home has begun it there
        if job.latest is None or ending_of(job.latest) in (None, "succeeded"):
            return job
    raise AssertionError  # the numbers never end


def training_data(folder: KeepFolder, job: Mapping[str, Any]) -> Dataset:
    """Return the saved training file of a job.

    Raises:
        FtclientError: It could not be saved.
    """
    data = _data(folder, job.get("training_file"))
    if data is None:
        raise FtclientError(f"The training file of {job.get('id')} is not in {folder.path}; the host had it no more.")
    return data


def prompt_data(folder: KeepFolder, job: Mapping[str, Any]) -> Dataset:
    """Return the examples to take prompts from: the validation file where there is one, else the training file."""
    return _data(folder, job.get("validation_file")) or training_data(folder, job)


def _data(folder: KeepFolder, file_id: str | None) -> Dataset | None:
    path = folder.path / f"files/{safe_name(file_id)}.jsonl" if file_id else None
    return Dataset.read(path) if path and path.is_file() else None


def _method(job: Mapping[str, Any], n_epochs: int | None) -> Method:
    method = job.get("method") or {"type": "supervised"}
    kind = method.get("type", "supervised")
    if kind == "reinforcement":
        raise UnsupportedError("Reinforcement jobs cannot be run again on the local backend; it tunes by examples.")
    chosen = (method.get(kind) or {}).get("hyperparameters") or job.get("hyperparameters") or {}
    numbers = {name: chosen[name] for name in ("n_epochs", "batch_size") if isinstance(chosen.get(name), int)}
    if n_epochs is not None:
        numbers["n_epochs"] = n_epochs
    if kind == "dpo":
        beta = chosen.get("beta")
        return DPO(**numbers, **({"beta": beta} if isinstance(beta, int | float) else {}))
    return Supervised(**numbers)
