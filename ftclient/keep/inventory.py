"""Every tuned model that an account still has, how long it lives, and what still works with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ftclient.cost.prices import base_of, shutdown_of
from ftclient.errors import BackendError, FtclientError
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

    from ftclient.client import Client

Call = Literal["job", "model", "training_file", "chat"]
CALLS: tuple[Call, ...] = ("job", "model", "training_file", "chat")
WORKS = "works"
NOT_TRIED = "not tried"
_MOST_JOBS = 100_000
_FIRST_TOKEN = 1


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """One tuned model of the account."""

    model: str
    base: str
    job_id: str | None
    """None: a model that no listed job has made."""
    created_at: int
    shutdown: str | None
    """Day on which the host ends it, as YYYY-MM-DD; None where that is not known."""
    days_left: int | None
    calls: Mapping[Call, str] = field(default_factory=dict)
    """What still works: `works`, `not tried`, or the host's refusal."""

    def to_json(self) -> dict[str, Any]:
        """The model as `ftclient keep list --json` prints it."""
        return asdict(self)


def inventory(client: Client, *, today: dt.date | None = None, ask: bool = False) -> list[Tuned]:
    """Return all tuned models, those that go first in front.

    Args:
        client: Connected to the account.
        today: The day from which days are counted; None is the calendar's.
        ask: Ask each model for one token, to see whether it still answers (that costs next to nothing).

    Raises:
        BackendError: Neither jobs nor models can be listed.
    """
    day = today or dt.datetime.now(dt.timezone.utc).date()
    listed = {model.id: model for model in client.models()}
    jobs = [job.latest for job in client.jobs(limit=_MOST_JOBS) if job.latest and job.latest.fine_tuned_model]
    found = [_of_job(client, job, listed, day, ask=ask) for job in jobs if job is not None]
    of_jobs = {each.model for each in found}
    for name, model in listed.items():
        if base_of(name) != name and ":ckpt-step-" not in name and name not in of_jobs:
            found.append(
                _tuned(
                    client, name, listed, day, job_id=None, created_at=model.created, calls=_chat(client, name, ask=ask)
                )
            )
    return sorted(found, key=lambda each: (each.days_left is None, each.days_left or 0, -each.created_at))


def _of_job(client: Client, job: FineTuningJob, listed: Mapping[str, Any], day: dt.date, *, ask: bool) -> Tuned:
    name = job.fine_tuned_model or ""
    calls: dict[Call, str] = {
        "job": WORKS,
        "model": WORKS if name in listed else "not listed",
        "training_file": _outcome(client, lambda: client.openai.files.retrieve(job.training_file)),
        **_chat(client, name, ask=ask),
    }
    return _tuned(client, name, listed, day, job_id=job.id, created_at=job.created_at, calls=calls)


def _tuned(
    client: Client,
    name: str,
    listed: Mapping[str, Any],
    day: dt.date,
    *,
    job_id: str | None,
    created_at: int,
    calls: Mapping[Call, str],
) -> Tuned:
    shutdown = getattr(listed.get(name), "shutdown_date", None) or shutdown_of(client.host, name)
    return Tuned(
        model=name,
        base=base_of(name),
        job_id=job_id,
        created_at=created_at,
        shutdown=shutdown,
        days_left=_days_left(shutdown, day),
        calls=calls,
    )


def _days_left(shutdown: str | None, day: dt.date) -> int | None:
    try:
        return (dt.date.fromisoformat(shutdown) - day).days if shutdown else None
    except ValueError:  # a date in a form that is not known
        return None


def _chat(client: Client, name: str, *, ask: bool) -> dict[Call, str]:
    if not ask:
        return {"chat": NOT_TRIED}
    return {"chat": _outcome(client, lambda: client.chat(name, "Hello", max_tokens=_FIRST_TOKEN))}


def _outcome(client: Client, call: Callable[[], object]) -> str:
    try:
        with errors_of(client.host):
            call()
    except BackendError as error:
        return str(error)
    except FtclientError as error:
        return f"{type(error).__name__}: {error}"
    return WORKS
