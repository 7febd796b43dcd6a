"""Every tuned model that an account still has, how long it lives, and what still works with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ftclient.cost.prices import base_of, shutdown_of
from ftclient.errors import BackendError, FtclientError
from ftclient.keep.asking import Tell, answer, asker
from ftclient.keep.prompts import Prompt
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai.types import Model
    from openai.types.fine_tuning import FineTuningJob

    from ftclient.client import Client
    from ftclient.evaluate.asking import Asker

Call = Literal["job", "model", "training_file", "chat"]
CALLS: tuple[Call, ...] = ("job", "model", "training_file", "chat")
WORKS = "works"
NOT_TRIED = "not tried"
NOT_LISTED = "not listed"
_Listed = TypeVar("_Listed")
_MOST_JOBS = 100_000
_FIRST_TOKEN = 1
_GREETING = Prompt(messages=[{"role": "user", "content": "Hello"}])
_HAS_BEGUN = "output limit was reached"
"""In OpenAI's refusal where a model that reasons was still at it with its last token: so it does answer."""


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
    """What still works: `works`, `not tried`, `not listed`, or the host's refusal."""

    def to_json(self) -> dict[str, Any]:
        """The model as `ftclient keep list --json` prints it."""
        return asdict(self)


def inventory(
    client: Client, *, today: dt.date | None = None, ask: bool = False, tell: Tell | None = None
) -> list[Tuned]:
    """Return all tuned models, those that go first in front.

    Args:
        client: Connected to the account.
        today: The day from which days are counted; None is the calendar's.
        ask: Ask each model for one token, to see whether it still answers (that costs next to nothing).
        tell: Told in words when jobs or models cannot be listed, or the host fails and is asked again after a pause.

    Raises:
        BackendError: Neither jobs nor models can be listed, or one of them cannot and the other list names none.
    """
    listings = _Listings(client)
    with ExitStack() as stack:
        asking = stack.enter_context(asker(client, tell=tell)) if ask else None
        survey = _Survey(client, listings, today or today_utc(), asking)
        found = [survey.of_job(job) for job in listings.jobs]
        of_jobs = {each.model for each in found}
        found += [
            survey.of_model(name, model)
            for name, model in listings.models.items()
            if base_of(name) != name and ":ckpt-step-" not in name and name not in of_jobs
        ]
    for what, error in listings.failures.items():
        if not found:
            raise error
        if tell:
            tell(f"The account's {what} cannot be listed: {error}")
    return sorted(found, key=lambda each: (each.days_left is None, each.days_left or 0, -each.created_at))


def silence_of(model: str) -> str:
    """Return as what the manifest lists a model that does not answer."""
    return f"answers of {model}"


def today_utc() -> dt.date:
    """Return the day from which the days that models have left are counted."""
    return dt.datetime.now(dt.timezone.utc).date()


def days_until(shutdown: str | None, day: dt.date) -> int | None:
    """Return the days from `day` to a date (YYYY-MM-DD); None where it is not known."""
    try:
        return (dt.date.fromisoformat(shutdown) - day).days if shutdown else None
    except ValueError:  # a date in a form that is not known
        return None


class _Listings:
    """What the account lists; a restricted key may list only one of the two."""

    def __init__(self, client: Client) -> None:
        self.failures: dict[str, BackendError] = {}
        self.models: dict[str, Model] = {model.id: model for model in self._listed("models", client.models)}
        jobs = self._listed("jobs", lambda: client.jobs(limit=_MOST_JOBS))
        self.jobs = [job.latest for job in jobs if job.latest and job.latest.fine_tuned_model]

    def _listed(self, what: str, ask: Callable[[], list[_Listed]]) -> list[_Listed]:
        try:
            return ask()
        except BackendError as error:
            self.failures[what] = error
            return []

    def outcome(self, what: str) -> str:
        """How listing went."""
        return str(self.failures[what]) if what in self.failures else WORKS


@dataclass(frozen=True)
class _Survey:
    """Looks at each model."""

    client: Client
    listings: _Listings
    day: dt.date
    asking: Asker | None

    def of_job(self, job: FineTuningJob) -> Tuned:
        """Return a model that a listed job has made."""
        name, listed = job.fine_tuned_model or "", self.listings.outcome("models")
        calls: dict[Call, str] = {
            "job": WORKS,
            "model": WORKS if name in self.listings.models else NOT_LISTED if listed == WORKS else listed,
            "training_file": _outcome(self.client, lambda: self.client.openai.files.retrieve(job.training_file)),
            "chat": self._chat(name),
        }
        return self._tuned(name, job_id=job.id, created_at=job.created_at, calls=calls)

    def of_model(self, name: str, model: Model) -> Tuned:
        """Return a listed model that no listed job has made."""
        calls: dict[Call, str] = {"chat": self._chat(name)}
        if "jobs" in self.listings.failures:
            calls["job"] = self.listings.outcome("jobs")
        return self._tuned(name, job_id=None, created_at=model.created, calls=calls)

    def _tuned(self, name: str, *, job_id: str | None, created_at: int, calls: Mapping[Call, str]) -> Tuned:
        listed = self.listings.models.get(name)
        shutdown = getattr(listed, "shutdown_date", None) or shutdown_of(self.client.host, name)
        return Tuned(
            model=name,
            base=base_of(name),
            job_id=job_id,
            created_at=created_at,
            shutdown=shutdown,
            days_left=days_until(shutdown, self.day),
            calls=calls,
        )

    def _chat(self, name: str) -> str:
        """Whether a model answers with a first token."""
        if self.asking is None:
            return NOT_TRIED
        try:
            error = answer(self.asking, name, _GREETING, {"max_tokens": _FIRST_TOKEN}).error
        except FtclientError as failure:
            return _words(failure)
        return WORKS if error is None or _HAS_BEGUN in error else error


def _outcome(client: Client, call: Callable[[], object]) -> str:
    try:
        with errors_of(client.host):
            call()
    except FtclientError as error:
        return _words(error)
    return WORKS


def _words(error: FtclientError) -> str:
    return str(error) if isinstance(error, BackendError) else f"{type(error).__name__}: {error}"
