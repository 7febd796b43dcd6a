"""The backend inside this process: the official client over a transport that calls the app, no socket between.

Both transports stream, and a stream that is closed early ends what the server was doing for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx2
from a2wsgi.asgi import ASGIMiddleware, ASGIResponder

from local_backend.app import create_app
from local_backend.settings import Settings

if TYPE_CHECKING:
    import openai

BASE_URL = "http://localhost/v1"
_ANY_KEY = "local"


class _Responder(ASGIResponder):  # type: ignore[misc]  # a2wsgi has no types
    """Runs one request in the app's loop and cancels it when the answer is closed before its end."""

    _task: Any = None

    async def start_asgi_app(self, environ: Any) -> Any:
        self._task = await super().start_asgi_app(environ)
        return self._task

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        try:
            yield from super().__call__(environ, start_response)
        finally:
            if self._task is not None and not self._task.done():
                self.loop.call_soon_threadsafe(self._task.cancel)
                self.asgi_done.wait()


class _Bridge(ASGIMiddleware):  # type: ignore[misc]  # a2wsgi has no types
    """The app as WSGI, its loop in a thread of its own."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return _Responder(self.app, self.loop, self.wait_time)(environ, start_response)


class Transport(httpx2.WSGITransport):
    """Sends requests to an app in this process."""

    def __init__(self, settings: Settings) -> None:
        self._backend_app = create_app(settings)
        self._bridge = _Bridge(self._backend_app)
        super().__init__(app=self._bridge)

    def close(self) -> None:
        """Let go of the home. Jobs in a runner process go on; those in a thread when the home is next opened."""
        self._backend_app.state.backend.close()
        loop = self._bridge.loop
        if loop.is_running():
            loop.call_soon_threadsafe(loop.stop)


class _AsyncStream(httpx2.AsyncByteStream):
    """The body of an answer, each piece fetched in a thread."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self._response.iter_raw()
        while (piece := await anyio.to_thread.run_sync(partial(next, pieces, None))) is not None:
            yield piece

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._response.close)


class AsyncTransport(httpx2.AsyncBaseTransport):
    """The same for asynchronous clients: requests run in threads."""

    def __init__(self, settings: Settings) -> None:
        self._sync = Transport(settings)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        await request.aread()
        send = partial(self._sync.handle_request, request)
        response = await anyio.to_thread.run_sync(send)
        return httpx2.Response(response.status_code, headers=response.headers, stream=_AsyncStream(response))

    async def aclose(self) -> None:
        """Let go of the home."""
        await anyio.to_thread.run_sync(self._sync.close)


def transport(settings: Settings) -> Transport:
    """Return a transport for `httpx2.Client`.

    Raises:
        StoreError: The home cannot be used.
    """
    return Transport(settings)


def client(settings: Settings) -> openai.OpenAI:
    """Return the official client, talking to a backend inside this process. Close it to let go of the home.

    Raises:
        StoreError: The home cannot be used.
    """
    import openai

    key = settings.token or _ANY_KEY
    http = httpx2.Client(transport=transport(settings), timeout=_timeout(), follow_redirects=True)
    return openai.OpenAI(base_url=BASE_URL, api_key=key, admin_api_key=key, http_client=http)


def async_client(settings: Settings) -> openai.AsyncOpenAI:
    """Return the official asynchronous client, talking to a backend inside this process.

    Raises:
        StoreError: The home cannot be used.
    """
    import openai

    key = settings.token or _ANY_KEY
    http = httpx2.AsyncClient(transport=AsyncTransport(settings), timeout=_timeout(), follow_redirects=True)
    return openai.AsyncOpenAI(base_url=BASE_URL, api_key=key, admin_api_key=key, http_client=http)


def _timeout() -> httpx2.Timeout:
    """The official client's own: 600 s in all, 5 s to connect."""
    return httpx2.Timeout(600, connect=5.0)
