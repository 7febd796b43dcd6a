"""Whether a host would take the job, as far as asking costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftclient.cost.plan import Note
from ftclient.errors import AccessError, AuthError, BackendError, FtclientError, UnavailableError
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI

_PATIENCE_S = 10.0


def access_notes(openai: OpenAI, host: Host, *, model: str) -> list[Note]:
    """Ask the host for the model, once and briefly, and return what that says about training it."""
    once = openai.with_options(max_retries=0, timeout=_PATIENCE_S)
    try:
        with errors_of(host):
            found = once.models.retrieve(model)
    except (AuthError, AccessError, UnavailableError) as error:
        return [Note("access_unknown", f"Whether this account may train cannot be said. {error}")]
    except BackendError as error:
        if error.status_code == 404:  # noqa: PLR2004
            return [Note("model_not_listed", f"{host.title} does not list {model!r} for this key.")]
        return [Note("access_unknown", f"Whether this account may train cannot be said. {error}")]
    except FtclientError as error:
        return [Note("access_unknown", str(error))]
    shutdown = getattr(found, "shutdown_date", None)
    if shutdown:
        return [Note("model_shutdown", f"{host.title} says that {model} is shut down on {shutdown}.")]
    return []
