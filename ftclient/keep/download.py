"""Downloading everything about tuned models into a folder; what is there already is not fetched again."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftclient.errors import FtclientError
from ftclient.jobs.follow import ending_of
from ftclient.keep.folder import KeepFolder, safe_name
from ftclient.keep.inventory import NOT_TRIED, WORKS, Tuned
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.jobs.job import Job

Progress = Callable[[str], None]
"""Told what is being saved."""


def save(
    client: Client, folder: KeepFolder, models: Sequence[Tuned], *, progress: Progress | None = None
) -> list[Mapping[str, str]]:
    """Save jobs, files, events, metrics and checkpoint lists of `models`, and return what could not be had.

    Whatever fails is listed with the reason, and the rest goes on. Calling it again fetches what is missing.
    """
    folder.manifest["source"] = {
        "host": client.host.name,
        "title": client.host.title,
        "base_url": str(client.openai.base_url),
        "saved_at": int(time.time()),
    }
    folder.manifest["models"] = [each.to_json() for each in models]
    problems: list[Mapping[str, str]] = []

    def attempt(what: str, call: Callable[[], object]) -> None:
        if progress:
            progress(what)
        try:
            call()
        except FtclientError as error:
            problems.append({"what": what, "why": str(error)})

    for each in models:
        problems += _refusals(each)
        if each.job_id is None:
            problems.append(
                {"what": f"job of {each.model}", "why": "No job that the account lists has made this model."}
            )
            continue
        steps: list[tuple[str, Callable[[], object]]] = []
        attempt(f"job {each.job_id}", functools.partial(_collect, steps, client, folder, each.job_id))
        for what, step in steps:
            attempt(what, step)
    folder.manifest["problems"] = problems
    folder.save()
    return problems


def _refusals(model: Tuned) -> Iterator[Mapping[str, str]]:
    """Yield what nothing can be saved of: the model itself stays at the host, and some do not even answer."""
    if model.calls.get("model", WORKS) != WORKS:
        yield {"what": f"model {model.model}", "why": "The account lists it no more."}
    if model.calls.get("chat", WORKS) not in (WORKS, NOT_TRIED):
        yield {"what": f"answers of {model.model}", "why": model.calls["chat"]}


def _collect(steps: list[tuple[str, Callable[[], object]]], client: Client, folder: KeepFolder, job_id: str) -> None:
    steps.extend(_steps(client, folder, job_id))


def _steps(client: Client, folder: KeepFolder, job_id: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Save a job itself, and yield what else there is of it, and how; a job that has ended does not change."""
    at = f"jobs/{safe_name(job_id)}"
    job = client.job(job_id)
    latest = job.latest or job.refresh()
    folder.put_json(f"{at}/job.json", latest.to_dict(mode="json"))
    parts: dict[str, Callable[[], object]] = {
        "events.jsonl": lambda: folder.put(f"{at}/events.jsonl", _lines(job)),
        "metrics.json": lambda: folder.put_json(f"{at}/metrics.json", [row.to_json() for row in job.metrics()]),
        "checkpoints.json": lambda: folder.put_json(
            f"{at}/checkpoints.json", [each.to_dict(mode="json") for each in job.checkpoints()]
        ),
    }
    for name, step in parts.items():
        if ending_of(latest) is None or not folder.has(f"{at}/{name}"):
            yield f"{name} of {job_id}", step
    for file_id in filter(None, (latest.training_file, latest.validation_file, *(latest.result_files or ()))):
        name = f"files/{safe_name(file_id)}.{'csv' if file_id in (latest.result_files or ()) else 'jsonl'}"
        if not folder.has(name):
            yield f"file {file_id} of {job_id}", _file_step(client, folder, file_id, name)


def _file_step(client: Client, folder: KeepFolder, file_id: str, name: str) -> Callable[[], object]:
    def step() -> None:
        with errors_of(client.host), client.openai.files.with_streaming_response.content(file_id) as answer:
            folder.put(name, answer.iter_bytes(1 << 20))

    return step


def _lines(job: Job) -> Iterator[bytes]:
    for event in job.events():
        yield json.dumps(event.to_dict(mode="json"), ensure_ascii=False).encode() + b"\n"


def job_of(folder: KeepFolder, job_id: str) -> dict[str, Any]:
    """Return a saved job.

    Raises:
        FtclientError: It has not been saved.
    """
    found = folder.get_json(f"jobs/{safe_name(job_id)}/job.json")
    if not isinstance(found, dict):
        raise FtclientError(f"{folder.path} holds no job {job_id}. `ftclient keep save {folder.path}` saves it.")
    return found
