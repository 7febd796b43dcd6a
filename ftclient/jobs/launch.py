"""Launching a job exactly once.

The journal has the launch on disk before the POST; the run id travels in the job's metadata and as Idempotency-Key.
The official client may not repeat the POST. When no answer comes, the job is looked for by its run id and adopted. It
is sent again only where that cannot start a second one: after a refusal, or at a host that honours the key. Otherwise
the launch stays `unknown` until someone decides.

A launch belongs to the address that it was sent to. Without a run id, a job whose launch had no answer is taken up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftclient.data import Dataset
from ftclient.errors import BackendError, FtclientError, JobNotFoundError, RateLimitError, UnavailableError
from ftclient.hosts import Host
from ftclient.jobs.journal import UNDER_WAY_S, Journal, Launch
from ftclient.jobs.launch_words import limited, sent_elsewhere, taken_up, unanswered, under_way, unknown
from ftclient.jobs.request import RUN_KEY, JobRequest, check_run_id, idempotency_key, new_run_id
from ftclient.wire import checked, checked_items, checked_job, errors_of, retry_after_s

if TYPE_CHECKING:
    from openai import OpenAI, Timeout
    from openai.types.fine_tuning import FineTuningJob

Upload = Callable[[Dataset], str]
"""Returns the id of a file at the host with exactly this content."""
Tell = Callable[[str], None]
"""Told in words what goes on."""

LOOKS_S = (0.0, 0.5, 2.0)
"""Pauses before each look for a job whose creation was not answered."""
_SENDS = 4
_SEARCHED_JOBS = 500
"""Newest jobs that are looked through where the host ignores the filter by metadata."""
_ANSWER_S = UNDER_WAY_S - 60.0
"""How long an answer to a launch is waited for at most."""
_REFUSALS = (400, 404)
"""Statuses that say that something in a request, such as a file that it names, is wrong."""
_LIMITED = "to be sent again: "
"""How the note of a launch begins that was refused because the host limits requests, and may be sent again soon."""
_OURS = set[tuple[Path, str]]()
"""Launches of this process that have no outcome yet, each by the home of its journal and its run id."""


class Launched(NamedTuple):
    """What a launch has come to."""

    run_id: str
    job: FineTuningJob


def launch(
    openai: OpenAI,
    host: Host,
    request: JobRequest,
    *,
    journal: Journal,
    upload: Upload,
    run_id: str | None = None,
    tell: Tell | None = None,
) -> Launched:
    """Upload what is needed and create the job, or return the job that this run id already made.

    Args:
        openai: The official client.
        host: Where it goes.
        request: The job.
        journal: Where the launch is written down.
        upload: Sends what the host does not have yet.
        run_id: Names the launch, so that a script that is run again finds its job; None is a new launch, unless an
            earlier one of the same job had no answer.
        tell: Told in words when the job of such an earlier launch is taken up, and of pauses that the host asks for.

    Raises:
        UnavailableError: It is not known whether the job exists; the text says how to find out.
        JobNotFoundError: The job that this run id made is gone, or at another host.
        FtclientError: The host refused.
        ValueError: The run id was used for another job, or is none that a job's metadata can hold.
    """
    request.check_host(host)
    if run_id is not None:
        check_run_id(run_id)
    fingerprint = _fingerprint(request)
    before = _unanswered(openai, host, journal, fingerprint) if run_id is None else journal.launch(run_id)
    job = _earlier_job(openai, host, before, journal, fingerprint, tell=tell) if before else None
    if before and job:
        if tell and run_id is None:
            tell(taken_up(before, job.id))
        return Launched(before.run_id, job)
    if run_id is None:
        run_id = before.run_id if before else new_run_id()
    files = upload(request.train), upload(request.valid) if request.valid is not None else None
    with _ours(journal, run_id):
        entry = _entry(openai, request, run_id=run_id, fingerprint=fingerprint, files=files)
        job = _begin(openai, host, entry, journal, tell=tell)
    return Launched(run_id, job)


def _earlier_job(
    openai: OpenAI, host: Host, before: Launch, journal: Journal, fingerprint: str, *, tell: Tell | None
) -> FineTuningJob | None:
    """Return the job of an earlier launch; None if that was refused, or is now, as its files are at the host no more.

    That a host refuses what is sent again happens only at one that honours the key, where it is sent again.
    """
    if before.state == "refused":
        return None
    try:
        return _of_before(openai, host, before, journal, fingerprint, tell=tell)
    except BackendError as error:
        now = journal.launch(before.run_id)
        if error.status_code not in _REFUSALS or not (host.is_local and now and now.state == "refused"):
            raise
    return None


def find(openai: OpenAI, host: Host, run_id: str) -> FineTuningJob | None:
    """Return the job that carries this run id, if the host has one."""
    with errors_of(host):
        listed = openai.fine_tuning.jobs.list(metadata={RUN_KEY: run_id}, limit=100)
        for number, job in enumerate(checked_items(listed, host)):
            if (job.metadata or {}).get(RUN_KEY) == run_id:
                return job
            if number >= _SEARCHED_JOBS:
                break
    return None


def _unanswered(openai: OpenAI, host: Host, journal: Journal, fingerprint: str) -> Launch | None:
    """Return the earlier launch of the same job that nobody has had an answer to, its job found where there is one.

    Somebody who types a command again after a crash has no run id to give, and must not pay twice. Nor who types it
    again while the first one waits until the host takes requests again: a launch that was refused for that is
    returned as well, and whoever is the first to send it makes the job of both.

    Raises:
        UnavailableError: Whether it has made a job is not known, and sending it again could make a second one.
    """
    of_others = [
        entry
        for entry in journal.launches(str(openai.base_url), "intended", "unknown", "refused")
        if entry.fingerprint == fingerprint and (journal.home, entry.run_id) not in _OURS
    ]
    pending = [entry for entry in of_others if entry.state != "refused"]
    for entry in pending:
        job = find(openai, host, entry.run_id)
        if job is not None:
            journal.settle(entry.run_id, "created", job_id=job.id)
            return replace(entry, state="created", job_id=job.id)
    if pending and not host.is_local:
        told = under_way if pending[-1].is_under_way else unanswered
        raise told(host, pending[-1], journal.home)
    left = pending or [entry for entry in of_others if (entry.note or "").startswith(_LIMITED)]
    return left[-1] if left else None


@contextmanager
def _ours(journal: Journal, run_id: str) -> Iterator[None]:
    """Mark a launch as one that a thread of this process is about to hear the outcome of."""
    _OURS.add((journal.home, run_id))
    try:
        yield
    finally:
        _OURS.discard((journal.home, run_id))


def _of_before(
    openai: OpenAI, host: Host, before: Launch, journal: Journal, fingerprint: str, *, tell: Tell | None = None
) -> FineTuningJob:
    """Return the job of an earlier launch under the same run id, or go on with that launch."""
    if before.fingerprint != fingerprint:
        raise ValueError(f"run id {before.run_id!r} was used for another job; choose a new one")
    if before.base_url != str(openai.base_url):
        return _found_elsewhere(openai, host, before, journal)
    if before.state == "created" and before.job_id:
        with errors_of(host, job_id=before.job_id):
            return checked_job(openai.fine_tuning.jobs.retrieve(before.job_id), host)
    return _take_up(openai, host, before, journal, tell=tell)


def _found_elsewhere(openai: OpenAI, host: Host, before: Launch, journal: Journal) -> FineTuningJob:
    """Return the job of a launch that went to another address, where this is the same server at another port.

    It may be looked for, but what was sent to one host is neither sent to another nor settled by what that one says.
    """
    job = find(openai, host, before.run_id) if host.is_local else None
    if job is None or before.job_id not in (None, job.id):
        raise sent_elsewhere(host, before, journal.home)
    return job


def _entry(
    openai: OpenAI, request: JobRequest, *, run_id: str, fingerprint: str, files: tuple[str, str | None]
) -> Launch:
    training_file, validation_file = files
    return Launch(
        run_id=run_id,
        base_url=str(openai.base_url),
        state="intended",
        job_id=None,
        fingerprint=fingerprint,
        body=request.body(training_file=training_file, validation_file=validation_file, run_id=run_id),
        created_at=time.time(),
        note=None,
    )


def _begin(openai: OpenAI, host: Host, entry: Launch, journal: Journal, *, tell: Tell | None) -> FineTuningJob:
    """Send a new launch, unless another process has been faster."""
    if journal.intend(entry):
        return _send(openai, host, entry, journal, tell=tell)
    return _of_before(openai, host, journal.launch(entry.run_id) or entry, journal, entry.fingerprint, tell=tell)


def _take_up(openai: OpenAI, host: Host, entry: Launch, journal: Journal, *, tell: Tell | None) -> FineTuningJob:
    """Go on with a launch that a killed process left behind, or that another is about to send."""
    job, is_certain = _look(openai, host, entry.run_id)
    if job is not None:
        journal.settle(entry.run_id, "created", job_id=job.id)
        return job
    if not (host.is_local and is_certain):
        raise under_way(host, entry, journal.home) if entry.is_under_way else _unknown(host, entry, journal)
    return _send(openai, host, entry, journal, tell=tell)


def _send(openai: OpenAI, host: Host, entry: Launch, journal: Journal, *, tell: Tell | None) -> FineTuningJob:
    """POST until there is an outcome; while the host limits requests there is no job, and the launch is refused."""
    for attempt in range(_SENDS - 1):
        try:
            return _send_or_leave(openai, host, entry, journal)
        except RateLimitError as error:  # asking again cannot make two jobs
            if error.code == "insufficient_quota":
                raise
            pause_s = retry_after_s(error) or 2.0**attempt
        if tell:
            tell(limited(host, pause_s))
        time.sleep(pause_s)
        if not journal.intend(entry):
            return _settled_by_another(openai, host, entry, journal)
    return _send_or_leave(openai, host, entry, journal)


def _send_or_leave(openai: OpenAI, host: Host, entry: Launch, journal: Journal) -> FineTuningJob:
    """POST until there is an outcome, or somebody leaves."""
    try:
        return _send_until_answered(openai, host, entry, journal)
    except FtclientError:
        raise
    except BaseException:  # Ctrl-C: nobody waits for an answer any more
        journal.settle(entry.run_id, "unknown", note="left before there was an answer", begun_at=entry.created_at)
        raise


def _send_until_answered(openai: OpenAI, host: Host, entry: Launch, journal: Journal) -> FineTuningJob:
    """POST until there is an outcome; only hosts that honour the key are tried twice."""
    cause: UnavailableError | None = None
    for _ in range(_SENDS):
        if not journal.sends(entry):
            return _settled_by_another(openai, host, entry, journal)
        try:
            job = _create(openai, host, entry)
        except UnavailableError as error:
            cause = error
            found, is_certain = _look(openai, host, entry.run_id)
            if found is None and host.is_local and is_certain:
                continue
            if found is None:
                break
            job = found
        except FtclientError as error:
            note = f"{_LIMITED if isinstance(error, RateLimitError) else ''}{error}"
            journal.settle(entry.run_id, "refused", note=note, begun_at=entry.created_at)
            raise
        journal.settle(entry.run_id, "created", job_id=job.id)
        return job
    raise _unknown(host, entry, journal, cause) from cause


def _settled_by_another(openai: OpenAI, host: Host, entry: Launch, journal: Journal) -> FineTuningJob:
    """Return the job of a launch that another process has sent, or whose outcome it has learnt.

    Raises:
        UnavailableError: Whether there is a job is not known, or somebody has given the launch up.
    """
    now = journal.launch(entry.run_id)
    if now and now.state != "refused":
        return _of_before(openai, host, now, journal, entry.fingerprint)
    raise UnavailableError(f"The launch {entry.run_id!r} has been settled by another process meanwhile. Try again.")


def _create(openai: OpenAI, host: Host, entry: Launch) -> FineTuningJob:
    body = dict(entry.body)
    once = openai.with_options(max_retries=0, timeout=_patience(openai))
    with errors_of(host):
        job = once.fine_tuning.jobs.create(
            model=body.pop("model"),
            training_file=body.pop("training_file"),
            extra_body=body,
            extra_headers={"Idempotency-Key": idempotency_key(entry.run_id)},
        )
        return checked(job, host)


def _patience(openai: OpenAI) -> float | Timeout:
    """Return how long the answer to a launch is waited for: after `UNDER_WAY_S` others take it for lost."""
    from openai import Timeout

    given = openai.timeout
    longest_s = given.read if isinstance(given, Timeout) else given
    return _ANSWER_S if given is None or longest_s is None or longest_s > _ANSWER_S else given


def _look(openai: OpenAI, host: Host, run_id: str) -> tuple[FineTuningJob | None, bool]:
    """Look for a job a few times; return it, and whether the last list could be read at all.

    Even a host that honours the key is sent nothing again on the word of a list that nobody has read: something on
    the way may have taken the key off.
    """
    was_read = False
    for pause_s in LOOKS_S:
        time.sleep(pause_s)
        try:
            job = find(openai, host, run_id)
        except (BackendError, JobNotFoundError):
            was_read = False
            continue
        if job is not None:
            return job, True
        was_read = True
    return None, was_read


def _unknown(host: Host, entry: Launch, journal: Journal, cause: UnavailableError | None = None) -> UnavailableError:
    journal.settle(entry.run_id, "unknown", note="no answer, and not in the list", begun_at=entry.created_at)
    return unknown(host, entry, journal.home, cause)


def _fingerprint(request: JobRequest) -> str:
    body: dict[str, Any] = request.body(
        training_file=request.train.sha256, validation_file=request.valid.sha256 if request.valid else None
    )
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
