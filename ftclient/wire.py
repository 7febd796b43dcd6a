"""Where the official client's exceptions become ours: the one place that knows both families."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ftclient.errors import (
    AccessError,
    AuthError,
    BackendError,
    FtclientError,
    JobNotFoundError,
    RateLimitError,
    UnavailableError,
)
from ftclient.hosts import Host

if TYPE_CHECKING:
    import openai
    from openai.pagination import SyncCursorPage
    from openai.types import FileObject
    from openai.types.fine_tuning import FineTuningJob

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
_Page = TypeVar("_Page", bound="SyncCursorPage[Any]")

_SHUT = (
    "OpenAI no longer starts fine-tuning jobs for this organization: self-serve fine-tuning is closing, and nobody can "
    "create jobs after 2027-01-06. The same code trains an open model on your own machine: use Client.local() instead "
    "of Client.openai(), or on the command line: ftclient --backend local train FILE --model smollm2-135m"
)

_LONGEST_PAUSE_S = 120.0
"""As far as the official client believes Retry-After."""

_PASSING = frozenset({408, 409, 425})
"""Timed out, in conflict with what goes on, too early: gateways send them also when the host has acted."""

_TRIPPED_AT = "_set_private_attributes"
"""What the official client looks for in an answer that was to be a list, and does not find in one that is none."""

_SHORTEST_KEY = 6
"""Shorter words, such as `none`, are no secrets and may be in any text."""


@contextmanager
def errors_of(host: Host, *, job_id: str | None = None) -> Iterator[None]:
    """Run a call to `host` and raise its failures as errors of this package.

    Args:
        host: Whom the call goes to; named in the texts.
        job_id: The job that the call is about; a 404 then means that there is no such job.

    Raises:
        FtclientError: The call failed; its class says how.
    """
    import httpx2
    import openai

    try:
        yield
    except openai.OpenAIError as error:
        # What the host said of a key stays out of tracebacks, too.
        cause = None if any(key in str(error) for key in _keys_of(error)) else error
        raise translate(error, host, job_id=job_id) from cause
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise unreadable(host) from error
    except AttributeError as error:
        if error.name != _TRIPPED_AT:
            raise
        raise unreadable(host) from error
    except httpx2.HTTPError as error:  # reading a streamed body happens outside the official client's own mapping
        raise UnavailableError(_unreachable(host, str(error) or type(error).__name__)) from error


def translate(error: openai.OpenAIError, host: Host, *, job_id: str | None = None) -> FtclientError:
    """Return our error for one of the official client's."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return _of_status(error, host, job_id)
    if isinstance(error, openai.APIResponseValidationError):  # of clients that were told to be strict
        return unreadable(host)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return UnavailableError(_unreachable(host, str(cause) or type(cause).__name__))
    if isinstance(error, openai.APIError):
        return BackendError(f"{_start(host)} sent an answer that cannot be read: {error.message}")
    return AuthError(missing_key(host))


def has_id(answer: object) -> bool:
    """Whether an answer, or an item of a list, is an object of the API; the official client does not look."""
    return isinstance(getattr(answer, "id", None), str)


def checked(answer: _Answer, host: Host, **fields: type | tuple[type, ...]) -> _Answer:
    """Return what a host has answered with, if it is an object of the API.

    Args:
        answer: What came; the official client has not looked whether it is what its type says.
        host: Who answered.
        fields: What else it must have, beside an id: names of fields, each with its type.

    Raises:
        UnavailableError: It is something else, such as the page of a proxy.
    """
    if not has_id(answer) or not all(isinstance(getattr(answer, name, None), fields[name]) for name in fields):
        raise unreadable(host)
    return answer


def checked_job(answer: FineTuningJob, host: Host) -> FineTuningJob:
    """Return what a host has answered with, if it is a job.

    Raises:
        UnavailableError: It is something else.
    """
    return checked(answer, host, status=str)


def checked_file(answer: FileObject, host: Host) -> FileObject:
    """Return what a host has answered with, if it is a file; its status may be missing, as that is deprecated.

    Raises:
        UnavailableError: It is something else.
    """
    return checked(answer, host, status=(str, type(None)))


def checked_page(page: _Page, host: Host) -> _Page:
    """Return what a host has answered with, if it is a page of a list whose items have ids.

    Raises:
        UnavailableError: It is something else.
    """
    # Some hosts write null for an empty list.
    if "data" not in page.model_fields_set or not all(map(has_id, page.data or ())):
        raise unreadable(host)
    return page


def checked_items(first: SyncCursorPage[_Item], host: Host) -> Iterator[_Item]:
    """Yield the items of a list from its first page on, each page asked for when it is needed.

    Raises:
        UnavailableError: A page is something else.
    """
    for page in first.iter_pages():
        yield from checked_page(page, host).data or ()


def unreadable(host: Host) -> UnavailableError:
    """Return the error for an answer with status 200 that does not hold what was asked for."""
    return UnavailableError(
        f"{_start(host)} sent an answer that cannot be read: it was cut short, or something on the way has given "
        "another in its place, such as a page to sign in. Try again later."
    )


def retry_after_s(error: BaseException) -> float | None:
    """Return how long to leave the host alone as it asks, in seconds, two minutes at most; None if it does not ask."""
    asked_s = asked_pause_s(error)
    return None if asked_s is None else min(asked_s, _LONGEST_PAUSE_S)


def asked_pause_s(error: BaseException) -> float | None:
    """Return how long the host asks to be left alone, in seconds; None where it has not said so.

    The header counts in seconds, or names a time (RFC 9110, 10.2.3).
    """
    response = getattr(error.__cause__, "response", None)
    said = response.headers.get("retry-after") if response is not None else None
    if not said:
        return None
    try:
        pause_s = float(said)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            pause_s = parsedate_to_datetime(said).timestamp() - time.time()
        except ValueError:
            return None
    return pause_s if pause_s > 0 else None


def missing_key(host: Host) -> str:
    """Return what to do when there is no API key for `host`."""
    return f"No API key for {host.title}. Set {host.key_env}, or pass api_key=..."


def _of_status(error: openai.APIStatusError, host: Host, job_id: str | None) -> FtclientError:
    status, code = error.status_code, error.code
    details: dict[str, Any] = {
        "status_code": status,
        "code": code,
        "param": error.param,
        "request_id": error.request_id,
    }
    text = _own_words(error)
    if status == 401:  # noqa: PLR2004
        return AuthError(f"{_start(host)} does not accept the API key. Check {host.key_env}.", **details)
    if status == 403:  # noqa: PLR2004
        hint = _SHUT if code == "training_not_available" else f"{_start(host)} refuses access: {text}"
        return AccessError(hint, **details)
    if status == 404 and job_id is not None:  # noqa: PLR2004
        return JobNotFoundError(f"{_start(host)} knows no job {job_id!r}. `ftclient jobs` lists those it has.")
    if status == 404 and host.before_use and code in ("DeploymentNotFound", "model_not_found"):  # noqa: PLR2004
        return BackendError(f"{_start(host)} refused (HTTP {status}): {text} {host.before_use}", **details)
    if status == 429:  # noqa: PLR2004
        remedy = "Add credit to the account." if code == "insufficient_quota" else "Try again later."
        return RateLimitError(f"{_start(host)} is limiting requests: {text} {remedy}", **details)
    if _is_unsure(status):
        return UnavailableError(f"{_start(host)} failed (HTTP {status}): {text} Try again later.", **details)
    return BackendError(f"{_start(host)} refused (HTTP {status}): {text}", **details)


def _is_unsure(status: int) -> bool:
    """Whether a status leaves open what the host has done, or asks to try again: all but refusals."""
    return status in _PASSING or not 400 <= status < 500  # noqa: PLR2004


def _own_words(error: openai.APIStatusError) -> str:
    """Return the host's message as one sentence; gateways answer with pages of HTML, of which nothing is shown."""
    said = error.body.get("message") if isinstance(error.body, dict) else None
    text = str(said or error.message).strip()
    for key in _keys_of(error):
        text = text.replace(key, "...")
    if "<html" in text.lower() or not text:
        return "no explanation was given."
    return text if text.endswith((".", "!", "?")) else text + "."


def _keys_of(error: openai.OpenAIError) -> list[str]:
    """Return the keys that went out with a request: some hosts repeat them in their answers."""
    headers = getattr(getattr(error, "request", None), "headers", {})
    found = (headers.get("authorization", "").removeprefix("Bearer "), headers.get("api-key", ""))
    return [key for key in found if len(key) > _SHORTEST_KEY]


def _unreachable(host: Host, cause: str) -> str:
    remedy = "Is `ftclient serve` running there?" if host.is_local else "Check the network and the address."
    return f"{_start(host)} cannot be reached: {cause.rstrip('.')}. {remedy}"


def _start(host: Host) -> str:
    return host.title[0].upper() + host.title[1:]
