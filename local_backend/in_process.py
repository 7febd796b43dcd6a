"""The backend inside this process: the official client over a transport that calls the app, no socket between.

Both transports stream, and a stream that is closed early ends what the server was doing for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import httpx2
from a2wsgi.asgi import ASGIMiddleware, ASGIResponder

from local_backend.app import create_app
from local_backend.settings import Settings

if TYPE_CHECKING:
    import openai

__all__ = ["AsyncTransport", "Settings", "Transport", "async_client", "client", "transport"]

BASE_URL = "http://localhost/v1"
_ANY_KEY = "local"
_WIND_DOWN_S = 2.0


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
    """The app as WSGI."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return _Responder(self.app, self.loop, self.wait_time)(environ, start_response)


class Transport(httpx2.WSGITransport):
    """Sends requests to an app in this process."""

    def __init__(self, settings: Settings) -> None:
        self._backend = (app := create_app(settings)).state.backend
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ftclient-app", daemon=True)
        self._thread.start()
        super().__init__(app=_Bridge(app, loop=self._loop))

    def close(self) -> None:
        """Let go of the home. Jobs in a runner process go on; those in a thread when the home is next opened."""
        if not self._loop.is_closed():
            self._backend.close()
            asyncio.run_coroutine_threadsafe(_wind_down(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _wind_down() -> None:
    """Close the streams that nobody reads to their end, and let what is under way come to its own."""
    await asyncio.get_running_loop().shutdown_asyncgens()
    under_way = asyncio.all_tasks() - {asyncio.current_task()}
    if under_way:
        await asyncio.wait(under_way, timeout=_WIND_DOWN_S)


class _Exchange(httpx2.AsyncByteStream):
    """One request to the app, run as a task of the caller's loop; also the body of its answer."""

    def __init__(self, app: Any, request: httpx2.Request) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=1)
        self._body = aiter(request.stream)  # type: ignore[arg-type]  # an asynchronous client sends no other
        self._has_sent = False
        self._task = asyncio.create_task(self._run(app, _scope(request)))

    async def answer(self) -> httpx2.Response:
        """Return the answer once it begins; its body comes as it is read."""
        try:
            start = await self._next()
        except BaseException:
            await self.aclose()
            raise
        return httpx2.Response(start["status"], headers=start["headers"], stream=self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._next()
            more = message.get("more_body", False)
            yield message.get("body", b"")

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._messages.put)
        except Exception as error:  # noqa: BLE001 - it is raised again where the answer is read
            await self._messages.put({"error": error})

    async def _next(self) -> dict[str, Any]:
        message = await self._messages.get()
        if "error" in message:
            raise message["error"]
        return message

    async def _receive(self) -> dict[str, Any]:
        """Hand the request's body over piece by piece; afterwards nothing comes but the end of this task."""
        if self._has_sent:
            await asyncio.Event().wait()
        piece = await anext(self._body, None)
        self._has_sent = piece is None
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}


def _scope(request: httpx2.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
        "root_path": "",
    }


class AsyncTransport(httpx2.AsyncBaseTransport):
    """Sends the requests of an asynchronous client to an app in the same loop (httpx2's own one buffers streams)."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        return await _Exchange(self._app, request).answer()

    async def aclose(self) -> None:
        """Let go of the home."""
        await asyncio.to_thread(self._app.state.backend.close)


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
