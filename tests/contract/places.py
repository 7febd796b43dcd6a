"""Where the contract is tested: the backend in this process, behind HTTP, with the real engine, or OpenAI itself."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai

from local_backend import in_process
from local_backend.settings import Settings
from tests.contract.answers import check_answer

ALIASES = {"gpt-4o-mini": "smollm2-135m"}


@contextmanager
def in_this_process(home: Path, *, asynchronous: bool = False) -> Iterator[Any]:
    """The official client on a transport into the app."""
    settings = Settings(home=home, cache=home / "cache", engine="simulated", runner="thread", aliases=ALIASES)
    if asynchronous:
        with from_async(httpx2.AsyncClient, transport=in_process.AsyncTransport(settings)) as client:
            yield client
        return
    http = httpx2.Client(transport=in_process.transport(settings), event_hooks={"response": [judge]})
    with official(openai.OpenAI, http, in_process.BASE_URL) as client:
        yield client


@contextmanager
def behind_http(url: str, *, asynchronous: bool = False) -> Iterator[Any]:
    """The official client, pointed at a server."""
    if asynchronous:
        with from_async(httpx2.AsyncClient, base_url=url) as client:
            yield client
        return
    with official(openai.OpenAI, httpx2.Client(event_hooks={"response": [judge]}, timeout=60), url) as client:
        yield client


@contextmanager
def official(kind: Any, http: Any, url: str, key: str = "any") -> Iterator[Any]:
    """An official client that does not retry, so that every failure is seen."""
    client = kind(base_url=url, api_key=key, admin_api_key=key, http_client=http, max_retries=0)
    try:
        yield client
    finally:
        client.close()


def judge(response: httpx2.Response) -> None:
    """Check every JSON answer against the contract, as it arrives."""
    if "json" in response.headers.get("content-type", ""):
        request = response.request
        path = request.url.path.removeprefix("/v1")
        check_answer(request.method, path, response.status_code, response.headers, response.read())


async def judge_async(response: httpx2.Response) -> None:
    """The same for asynchronous clients."""
    if "json" in response.headers.get("content-type", ""):
        await response.aread()
        judge(response)


@contextmanager
def from_async(kind: Any, *, base_url: str = in_process.BASE_URL, **options: Any) -> Iterator[Any]:
    """The official asynchronous client, to be called as if it were the other one: one suite serves both."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="async-client", daemon=True)
    thread.start()
    http = kind(event_hooks={"response": [judge_async]}, timeout=60, **options)
    client = openai.AsyncOpenAI(base_url=base_url, api_key="any", admin_api_key="any", http_client=http, max_retries=0)
    try:
        yield Awaited(client, loop)
    finally:
        asyncio.run_coroutine_threadsafe(client.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Awaited:
    """Stands before an asynchronous object: its coroutines are awaited, its iterators iterated."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return self._wrap(getattr(self._target, name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._wrap(self._finish(self._target(*args, **kwargs)))

    def __iter__(self) -> Iterator[Any]:
        iterator = aiter(self._target)
        end = object()
        while (item := self._finish(anext(iterator, end))) is not end:
            yield item

    def __enter__(self) -> Any:
        return self._wrap(self._finish(self._target.__aenter__()))

    def __exit__(self, *exc_info: object) -> None:
        self._finish(self._target.__aexit__(*exc_info))

    def _finish(self, value: Any) -> Any:
        """Await what can be awaited. Lists can be both awaited and iterated: they are iterated, page by page."""
        if not inspect.isawaitable(value) or hasattr(value, "__aiter__"):
            return value
        return asyncio.run_coroutine_threadsafe(_result(value), self._loop).result()

    def _wrap(self, value: Any) -> Any:
        is_plain = isinstance(value, str | bytes | int | float | list | dict | None)
        has_async = hasattr(value, "__aiter__") or type(value).__name__.startswith("Async")
        return value if is_plain or not (callable(value) or has_async) else Awaited(value, self._loop)


async def _result(value: Any) -> Any:
    return await value


@contextmanager
def server(home: Path, *options: str, engine: str = "simulated") -> Iterator[str]:
    """A server in a process of its own; yields the address to give to clients."""
    command = [sys.executable, "-m", "local_backend", "serve", "--port", "0", "--home", str(home), "--engine", engine]
    command += [f"--alias={name}={model}" for name, model in ALIASES.items()]
    if engine == "simulated":
        command += ["--cache", str(home / "cache")]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    try:
        yield address_of(process)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def address_of(process: subprocess.Popen[str]) -> str:
    """Wait until a server says where it listens."""
    assert process.stderr is not None
    printed = []
    for line in process.stderr:
        found = re.search(r"http://\S+", line)
        if found:
            return found[0]
        printed.append(line)
    raise AssertionError(f"the server ended with {process.wait()}: {''.join(printed)[-2000:]}")


def hosted() -> Any:
    """OpenAI itself: opt-in by FTCLIENT_CONTRACT_HOSTED=1, since it costs money."""
    return official(
        openai.OpenAI, httpx2.Client(timeout=600), "https://api.openai.com/v1", os.environ["OPENAI_API_KEY"]
    )
