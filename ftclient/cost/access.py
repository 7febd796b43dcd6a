"""Whether a host would take the job, as far as asking costs nothing."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from ftclient.cost.book import PriceBook
from ftclient.cost.notes import Note, about_idle
from ftclient.errors import AccessError, AuthError, BackendError, FtclientError, UnavailableError
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI

_PATIENCE_S = 10.0
_NO_SUCH_MODEL = 404
_CLOSED = "training_not_available"
"""The only code that says that an account may not train; other refusals are of the question."""


class Access(NamedTuple):
    """What a host has said about a model."""

    notes: list[Note]
    shutdown: str | None = None
    """The day on which the model ends, by the host's own word, as YYYY-MM-DD."""
    is_listed: bool = False
    """Whether the host has said that the model is there."""


def ask_access(openai: OpenAI, host: Host, *, model: str, book: PriceBook) -> Access:
    """Ask the host for the model and for past jobs, each once and briefly; nothing is uploaded or started."""
    once = openai.with_options(max_retries=0, timeout=_PATIENCE_S)
    try:
        with errors_of(host):
            found = once.models.retrieve(model)
    except BackendError as error:
        if error.status_code == _NO_SUCH_MODEL:
            return Access([_not_listed(once, host, model, book)])
        return Access([_refusal(error)])
    except FtclientError as error:
        return Access([Note("access_unknown", str(error))])
    return Access(_about_account(once, host, book), getattr(found, "shutdown_date", None), is_listed=True)


def _refusal(error: BackendError) -> Note:
    if isinstance(error, AccessError) and error.code == _CLOSED:
        return Note("training_refused", f"This account may not train here. {error}")
    scopes = " A restricted key needs the scopes to read models and fine-tuning jobs." * isinstance(error, AccessError)
    return Note("access_unknown", f"Whether this account may train cannot be said. {error}{scopes}")


def _about_account(openai: OpenAI, host: Host, book: PriceBook) -> list[Note]:
    """Say whether the host takes no newcomers and this account is one: it has never had a job."""
    dates = book.host(host.name).dates
    closed = dates.closed_to_newcomers
    if closed is None:
        return []
    try:
        with errors_of(host):
            jobs = openai.fine_tuning.jobs.list(limit=1)
    except (AccessError, AuthError, UnavailableError) as error:
        return [_refusal(error)]
    except FtclientError:
        return []  # the list of jobs is only a hint; that the model may be used is known
    if jobs.data:
        return [Note("training_if_used", about_idle(host, dates))] if dates.closed_to_idle else []
    text = (
        f"This account lists no fine-tuning jobs, and {host.title} starts none for accounts that had not tuned before "
        f"{closed}: expect it to refuse (HTTP 403, training_not_available)."
    )
    return [Note("training_refused", text)]


def _not_listed(openai: OpenAI, host: Host, model: str, book: PriceBook) -> Note:
    names = {*book.host(host.name).models, *_listed(openai, host)}
    alike = difflib.get_close_matches(model, sorted(names), n=3)
    hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
    return Note("model_not_listed", f"{host.title} does not list {model!r} for this key.{hint}")


def _listed(openai: OpenAI, host: Host) -> list[str]:
    try:
        with errors_of(host):
            return [each.id for each in openai.models.list()]
    except FtclientError:
        return []  # the names only serve a better text
