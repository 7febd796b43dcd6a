"""A reverse proxy that misbehaves on purpose, for tests against a real server.

It stands between a client and a server on loopback and does to each exchange what real networks and hosts do:
delays it, drops it before or after the server has acted, cuts an answer short, answers 429 or 5xx in the server's
place (also after the server has acted), loses a header, or turns a page of a list around. Which fault hits which
request is a function that the test gives, so a run with the same seed has the same faults.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11
from typing_extensions import Self

Headers = Sequence[tuple[bytes, bytes]]
HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"host"}


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a fault is chosen by: the request as it arrived."""

    number: int
    """Counts requests through this proxy from 0."""
    method: str
    path: str
    """Path with query."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one exchange; the default is nothing."""

    delay_s: float = 0.0
    """Wait before the request is passed on."""
    drop_before: bool = False
    """Reset the connection; the server never hears of the request."""
    drop_after: bool = False
    """Let the server act, then reset: the client cannot know that it did."""
    keep_bytes: int | None = None
    """Pass on this many bytes of the answer's body, then reset."""
    status: int | None = None
    """Answer with this status in the server's place."""
    status_after: int | None = None
    """Let the server act, then answer with this status: the client cannot know that it did."""
    retry_after_s: float | None = None
    """Retry-After of an answer in the server's place."""
    strip_headers: frozenset[str] = frozenset()
    """Request headers (lower case) that never arrive."""
    reverse_page: bool = False
    """Turn the `data` of a list answer around."""
    edit: Callable[[bytes], bytes] | None = None
    """Change the body of the answer, as other hosts word theirs."""


NO_FAULT = Fault()
Chooser = Callable[[Exchange], Fault]


def random_faults(seed: int, *, rate: float, strip_headers: frozenset[str] = frozenset()) -> Chooser:
    """Return a chooser that hits a share `rate` of requests with one of the network's usual faults."""

    def choose(exchange: Exchange) -> Fault:
        dice = random.Random(f"{seed}/{exchange.number}")
        if dice.random() >= rate:
            return Fault(strip_headers=strip_headers)
        faults: list[Mapping[str, Any]] = [
            {"delay_s": dice.uniform(0.0, 0.2)},
            {"drop_before": True},
            {"drop_after": True},
            {"keep_bytes": dice.randrange(0, 64)},
            {"status": dice.choice([500, 502, 503])},
            {"status": 429, "retry_after_s": 0.05},
        ]
        return Fault(strip_headers=strip_headers, **dice.choice(faults))

    return choose


@dataclass
class FaultProxy:
    """A proxy in front of `upstream` (http://host:port); use as a context manager.

    `url` is where clients connect; `seen` lists what came through, with the fault that it met. `choose` may be
    replaced while it runs.
    """

    upstream: str
    choose: Chooser = lambda _: NO_FAULT
    seen: list[tuple[Exchange, Fault]] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        """Start listening on a free port of loopback."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop listening and cut every open connection."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where clients connect instead of to the server."""
        return f"http://127.0.0.1:{self.port}"

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one client connection, request after request, until either side ends it."""
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (ConnectionError, h11.ProtocolError, asyncio.IncompleteReadError):
            writer.transport.abort()
        except asyncio.CancelledError:
            return  # the proxy stops; Python 3.11's streams would report it as an error of theirs
        finally:
            writer.close()

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Pass one request through; False when the connection is to be closed."""
        head, body = await read_message(connection, reader)
        if not isinstance(head, h11.Request):
            return False
        exchange = Exchange(number=len(self.seen), method=head.method.decode(), path=head.target.decode())
        fault = self.choose(exchange)
        self.seen.append((exchange, fault))
        await asyncio.sleep(fault.delay_s)
        if fault.drop_before:
            raise ConnectionResetError
        status, headers, answer = await self._answer(head, body, fault)
        if fault.drop_after:
            raise ConnectionResetError
        if fault.reverse_page:
            answer = reverse_page(answer)
        if fault.edit:
            answer = fault.edit(answer)
        await self._send(connection, writer, (status, headers, answer), fault)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def _answer(self, head: h11.Request, body: bytes, fault: Fault) -> tuple[int, Headers, bytes]:
        """Return status, headers and body: the server's, or the fault's in its place."""
        if fault.status is None:
            answer = await self._forward(head, body, fault)
            if fault.status_after is None:
                return answer
        error = {
            "message": "The proxy failed on purpose.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
        headers = [(b"content-type", b"application/json")]
        if fault.retry_after_s is not None:
            headers.append((b"retry-after", str(fault.retry_after_s).encode()))
        return fault.status or fault.status_after or 500, headers, json.dumps({"error": error}).encode()

    async def _forward(self, head: h11.Request, body: bytes, fault: Fault) -> tuple[int, Headers, bytes]:
        """Send the request to the server over a connection of its own and read the whole answer."""
        target = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        try:
            connection = h11.Connection(h11.CLIENT)
            lost = HOP_BY_HOP | {name.encode() for name in fault.strip_headers}
            headers = [(name, value) for name, value in head.headers if name not in lost]
            headers += [(b"host", target.netloc.encode()), (b"content-length", str(len(body)).encode())]
            request = h11.Request(method=head.method, target=head.target, headers=headers)
            writer.write(connection.send(request) or b"")
            writer.write(connection.send(h11.Data(data=body)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            answer, content = await read_message(connection, reader)
            if not isinstance(answer, h11.Response):
                raise ConnectionResetError
            kept = [(name, value) for name, value in answer.headers if name not in HOP_BY_HOP]
            return answer.status_code, kept, content
        finally:
            writer.close()

    async def _send(
        self,
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        answer: tuple[int, Headers, bytes],
        fault: Fault,
    ) -> None:
        status, headers, body = answer
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
        if fault.keep_bytes is not None and fault.keep_bytes < len(body):
            writer.write(connection.send(h11.Data(data=body[: fault.keep_bytes])) or b"")
            await writer.drain()
            raise ConnectionResetError
        writer.write(connection.send(h11.Data(data=body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()


async def read_message(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> tuple[h11.Request | h11.Response | None, bytes]:
    """Read one whole HTTP message; (None, b"") when the other side has closed."""
    head: h11.Request | h11.Response | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Request | h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return head, bytes(body)
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None, b""


def reverse_page(body: bytes) -> bytes:
    """Return a list answer with its items in the opposite order; anything else as it was."""
    try:
        page = json.loads(body)
    except ValueError:
        return body
    if not isinstance(page, dict) or not isinstance(page.get("data"), list):
        return body
    return json.dumps({**page, "data": page["data"][::-1]}).encode()
