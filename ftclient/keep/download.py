"""Downloading everything about tuned models into a folder; what is there already is not fetched again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ftclient.errors import FtclientError
from ftclient.jobs.follow import ending_of
from ftclient.keep.folder import KeepFolder, safe_name
from ftclient.keep.inventory import CALLS, NOT_LISTED, NOT_TRIED, WORKS, Tuned, days_until, silence_of, today_utc
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

    Whatever fails is listed with the reason, and the rest goes on. Calling it again fetches what is missing. Models
    that were saved before and are listed no more stay in the folder.
    """
    folder.manifest["source"] = {
        "host": client.host.name,
        "title": client.host.title,
        "base_url": str(client.openai.base_url),
        "saved_at": int(time.time()),
    }
    before = folder.manifest["models"]
    models, gone = _with_known_jobs(before, models), _gone(before, models)
    folder.manifest["models"] = [*(each.to_json() for each in models), *gone]
    run = _Run(client, folder, progress)
    for each in models:
        run.tried |= _looked_at(each)
        run.problems += _refusals(each)
        if each.job_id is not None:
            run.save_job(each.job_id)
    run.problems += [_missing(each["model"]) for each in gone if each["calls"].get("model") == NOT_LISTED]
    problems = run.problems_left()
    tried = run.tried | {each["what"] for each in problems}
    earlier = [each for each in folder.manifest["problems"] if each["what"] not in tried]
    folder.manifest["problems"] = [*earlier, *problems]
    folder.save()
    return problems


class _Part(NamedTuple):
    """Something that there is of a job, and how it is had."""

    what: str
    name: str
    """Where it is in the folder."""
    fetch: Callable[[], object]
    is_final: bool = True
    """The host will not have more of it another day."""

    def is_here(self, folder: KeepFolder) -> bool:
        return self.is_final and folder.has(self.name)


class _Run:
    """One run over the jobs of models."""

    def __init__(self, client: Client, folder: KeepFolder, progress: Progress | None) -> None:
        self._client, self._folder, self._progress = client, folder, progress
        self._missed: dict[str, _Part] = {}
        self.tried: set[str] = set()
        """What was looked for: what was said of it before holds no more."""
        self.problems: list[Mapping[str, str]] = []

    def save_job(self, job_id: str) -> None:
        """Save a job and all its parts that are not here yet."""
        parts: list[_Part] = []
        self._attempt(f"job {job_id}", lambda: parts.extend(_parts(self._client, self._folder, job_id)))
        for part in parts:
            if part.is_here(self._folder):
                self.tried.add(part.what)
            elif not self._attempt(part.what, part.fetch):
                self._missed[part.what] = part

    def problems_left(self) -> list[Mapping[str, str]]:
        """Return the problems but for what has come after all: jobs share files, and the next one may get them."""
        here = {what for what, part in self._missed.items() if part.is_here(self._folder)}
        return [each for each in self.problems if each["what"] not in here]

    def _attempt(self, what: str, call: Callable[[], object]) -> bool:
        self.tried.add(what)
        if self._progress:
            self._progress(what)
        try:
            call()
        except FtclientError as error:
            self.problems.append({"what": what, "why": str(error)})
            return False
        return True


def _with_known_jobs(before: Sequence[Mapping[str, Any]], models: Sequence[Tuned]) -> list[Tuned]:
    """Return models with the jobs that have made them, also where the account does not list those now."""
    jobs = {each["model"]: each["job_id"] for each in before}
    return [replace(each, job_id=each.job_id or jobs.get(each.model)) for each in models]


def _gone(before: Sequence[Mapping[str, Any]], models: Sequence[Tuned]) -> list[dict[str, Any]]:
    """Return models that were saved before and are not listed now, as far as jobs and models could be listed."""
    names, day = {each.model for each in models}, today_utc()
    known = all(
        each.calls.get("job", WORKS) == WORKS and each.calls.get("model", WORKS) in (WORKS, NOT_LISTED)
        for each in models
    )
    news = {"calls": dict.fromkeys(CALLS, NOT_LISTED)} if known else {}
    return [
        {**each, "days_left": days_until(each["shutdown"], day), **news}
        for each in before
        if each["model"] not in names
    ]


def _looked_at(model: Tuned) -> set[str]:
    """Return what a look at the account says of a model, well or not; what was not looked at stays as it was."""
    asked = {silence_of(model.model)} if model.calls.get("chat", NOT_TRIED) != NOT_TRIED else set()
    return {f"model {model.model}", f"job of {model.model}", *asked}


def _refusals(model: Tuned) -> Iterator[Mapping[str, str]]:
    """Yield what nothing can be saved of: the model itself stays at the host, and some do not even answer."""
    listed = model.calls.get("model", WORKS)
    if listed != WORKS:
        yield _missing(model.model) if listed == NOT_LISTED else {"what": f"model {model.model}", "why": listed}
    if model.calls.get("chat", WORKS) not in (WORKS, NOT_TRIED):
        yield {"what": silence_of(model.model), "why": model.calls["chat"]}
    if model.job_id is None:
        why = model.calls.get("job", "No job that the account lists has made this model.")
        yield {"what": f"job of {model.model}", "why": why}


def _missing(name: str) -> Mapping[str, str]:
    return {"what": f"model {name}", "why": "The account lists it no more."}


def _parts(client: Client, folder: KeepFolder, job_id: str) -> Iterator[_Part]:
    """Save a job itself, and yield what else there is of it; a job that has ended does not change."""
    at = f"jobs/{safe_name(job_id)}"
    job = client.job(job_id)
    latest = job.latest or job.refresh()
    folder.put_json(f"{at}/job.json", latest.to_dict(mode="json"))
    listed: dict[str, Callable[[], object]] = {
        "events.jsonl": lambda: folder.put(f"{at}/events.jsonl", _lines(job)),
        "metrics.json": lambda: folder.put_json(f"{at}/metrics.json", [row.to_json() for row in job.metrics()]),
        "checkpoints.json": lambda: folder.put_json(
            f"{at}/checkpoints.json", [each.to_dict(mode="json") for each in job.checkpoints()]
        ),
    }
    has_ended = ending_of(latest) is not None
    for name, fetch in listed.items():
        yield _Part(f"{name} of {job_id}", f"{at}/{name}", fetch, is_final=has_ended)
    for file_id in filter(None, (latest.training_file, latest.validation_file, *(latest.result_files or ()))):
        name = f"files/{safe_name(file_id)}.{'csv' if file_id in (latest.result_files or ()) else 'jsonl'}"
        yield _Part(f"file {file_id} of {job_id}", name, _file_step(client, folder, file_id, name))


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
