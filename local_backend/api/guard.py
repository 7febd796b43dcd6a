"""Who may talk to the server: Host and Origin of every request, the bearer token, and a request id on every answer.

A page in a browser can send requests to loopback, and by rebinding a name it controls it can even read the answers;
the checks of Host and Origin stop both. There are no CORS headers.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_backend.api.errors import ApiError, to_api_error
from local_backend.trace import where

log = logging.getLogger("local_backend.api")

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """Middleware that lets through what may pass and answers the rest itself."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        request_id = f"req_{secrets.token_hex(16)}"

        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        error = refusal(headers, token=self._token)
        app = self._app if error is None else error.response()
        try:
            await app(scope, receive, send_with_id)
        except Exception as failure:  # the last place where it can become an answer
            if has_begun:
                raise
            log.error("%s: %s", request_id, where(failure))  # noqa: TRY400 - messages may quote training text
            await to_api_error(failure).response()(scope, receive, send_with_id)


def refusal(headers: Headers, *, token: str | None) -> ApiError | None:
    """Return why a request may not pass; None if it may."""
    host = host_name(headers.get("host", ""))
    if token is None and host not in LOCAL_HOSTS:
        return ApiError(
            f"This server answers to localhost only, not to '{host[:80]}'. Start it with a token to use other names.",
            status=403,
            code="host_not_allowed",
        )
    origin = headers.get("origin")
    if origin is not None and not _is_same_origin(origin, headers.get("host", "")):
        return ApiError("Requests from web pages are not answered.", status=403, code="origin_not_allowed")
    if token is not None and not _has_token(headers, token):
        return ApiError(
            "Incorrect API key provided. Use the token that the server was started with.",
            status=401,
            code="invalid_api_key",
        )
    return None


def host_name(host: str) -> str:
    """The name in a Host header without its port; "" if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_same_origin(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower() and origin != "null"
    except ValueError:
        return False


def _has_token(headers: Headers, token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
