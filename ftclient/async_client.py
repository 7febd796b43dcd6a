"""The client for programs that run an event loop: the same methods, awaited.

There is one implementation, the synchronous one; its calls run in worker threads. Only the streaming of chat is done
by the official asynchronous client, where that can ask in the same way as the synchronous one. Cancelling an await
ends the waiting; a launch that is under way is finished by its thread and is in the journal as always.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from typing_extensions import Self

from ftclient import connect
from ftclient.client import Client
from ftclient.evaluate.chat import Prompt, messages_of
from ftclient.jobs.follow import Known
from ftclient.jobs.job import Job
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from pathlib import Path

    from openai import AsyncOpenAI, OpenAI
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

    from ftclient.cost.book import PriceBook
    from ftclient.hosts import Host
    from ftclient.jobs.results import JobResult
    from ftclient.view.watch import Screen

_P = ParamSpec("_P")
_T = TypeVar("_T")
_END: Any = object()


class _LeftError(Exception):
    """Ends the thread of somebody who waits no more."""


class _Leave:
    """Tells a thread that nobody waits for it any more."""

    def __init__(self) -> None:
        self._left = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._left.set()

    def sleep(self, pause_s: float) -> None:
        """Wait, or end the thread."""
        if self._left.wait(pause_s):
            raise _LeftError

    def check(self) -> None:
        """End the thread if nobody waits for it."""
        if self._left.is_set():
            raise KeyboardInterrupt


async def _in_thread(call: Callable[[], _T], *, can_be_left: bool = False) -> _T:
    import anyio.to_thread

    return await anyio.to_thread.run_sync(call, abandon_on_cancel=can_be_left)


async def _pieces(found: Iterator[_T]) -> AsyncIterator[_T]:
    """Yield what a synchronous iterator yields, each step in a thread."""
    while (piece := await _in_thread(functools.partial(next, found, _END), can_be_left=True)) is not _END:
        yield piece


def _job_method(
    method: Callable[Concatenate[Job, _P], _T],
) -> Callable[Concatenate[AsyncJob, _P], Coroutine[Any, Any, _T]]:
    @functools.wraps(method)
    async def call(self: AsyncJob, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await _in_thread(functools.partial(method, self.job, *args, **kwargs))

    return call


def _method(
    method: Callable[Concatenate[Client, _P], _T],
) -> Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _T]]:
    @functools.wraps(method)
    async def call(self: AsyncClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await _in_thread(functools.partial(method, self.sync, *args, **kwargs))

    return call


class AsyncJob:
    """One job, for programs that run an event loop. `job` is the same one for synchronous code."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.id = job.id

    def __repr__(self) -> str:
        """As the job itself shows."""
        return repr(self.job).replace("<Job", "<AsyncJob", 1)

    refresh = _job_method(Job.refresh)
    result = _job_method(Job.result)
    cancel = _job_method(Job.cancel)
    pause = _job_method(Job.pause)
    resume = _job_method(Job.resume)
    checkpoints = _job_method(Job.checkpoints)
    metrics = _job_method(Job.metrics)
    details = _job_method(Job.details)
    classification = _job_method(Job.classification)

    @property
    def latest(self) -> FineTuningJob | None:
        """The job as it was last seen, None before the first look."""
        return self.job.latest

    async def status(self) -> str:
        """Return the status now, in the host's words."""
        return (await self.refresh()).status

    async def events(self, *, follow_on: bool = False, after: Known = None) -> AsyncIterator[FineTuningJobEvent]:
        """Yield events as `Job.events` does."""
        with _Leave() as leave:
            async for event in _pieces(self.job.events(follow_on=follow_on, after=after, sleep=leave.sleep)):
                yield event

    async def wait(
        self, *, timeout_s: float | None = None, on_event: Callable[[FineTuningJobEvent], None] | None = None
    ) -> JobResult:
        """Return when the job has ended well, as `Job.wait` does; `on_event` is called in a worker thread."""
        with _Leave() as leave:
            call = functools.partial(self.job.wait, timeout_s=timeout_s, on_event=on_event, sleep=leave.sleep)
            return await _in_thread(call, can_be_left=True)

    async def watch(self) -> FineTuningJob:
        """Show the job live until it ends, as `Job.watch` does; cancelling leaves the view, and the job goes on."""
        from rich.console import Console

        from ftclient.view.watch import screen_for, watch

        console = Console(stderr=True)
        with _Leave() as leave:
            screen = _LeavableScreen(screen_for(console), leave)
            return await _in_thread(
                functools.partial(watch, self.job, console=console, screen=screen), can_be_left=True
            )


class _LeavableScreen:
    """A screen that is left when nobody awaits it any more."""

    def __init__(self, screen: Screen, leave: _Leave) -> None:
        self._screen, self._leave = screen, leave

    def show(self, scene: Any, poll: Any) -> None:
        self._leave.check()
        self._screen.show(scene, poll)

    def close(self) -> None:
        self._screen.close()


class AsyncClient:
    """Fine-tuning at one host, for programs that run an event loop. Methods are those of `Client`, awaited.

    Args:
        openai: A synchronous official client of your own; all but chat streams goes through it.
        host: What the host can do; None recognises it by the client's address.
        home: Folder of what this machine must not forget.
        streaming: An asynchronous official client for chat streams. None makes one of the same address, key, headers
            and query; a client with HTTP or tokens of its own streams by itself, in threads.
    """

    openai = connect.OpenAIAccess()

    def __init__(
        self,
        openai: OpenAI,
        *,
        host: Host | None = None,
        home: Path | str | None = None,
        streaming: AsyncOpenAI | None = None,
    ) -> None:
        self.sync = Client(openai, host=host, home=home)
        """The same client for synchronous code."""
        self._official = openai
        self._streaming = streaming

    @classmethod
    def azure(cls, endpoint: str, **options: Any) -> Self:
        """Connect to Azure OpenAI; arguments as for `Client.azure`."""
        return cls._over(Client.azure(endpoint, **options))

    @classmethod
    def at(cls, url: str, **options: Any) -> Self:
        """Connect to any server that speaks the API; arguments as for `Client.at`."""
        return cls._over(Client.at(url, **options))

    @classmethod
    def local(cls, **settings: Any) -> Self:
        """Train and answer on this machine, in this process; arguments as for `Client.local`."""
        return cls._over(Client.local(**settings))

    @classmethod
    def from_env(cls, *, home: Path | str | None = None) -> Self:
        """Connect to what FTCLIENT_BACKEND names, as `Client.from_env` does."""
        return cls._over(Client.from_env(home=home))

    @classmethod
    def _over(cls, client: Client) -> Self:
        return cls(client.openai, host=client.host, home=client.home)

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the connections."""
        await self.close()

    def __repr__(self) -> str:
        """Where it is connected to; never with a key."""
        return f"<AsyncClient at {self.host.title}>"

    @property
    def host(self) -> Host:
        """What the host can do."""
        return self.sync.host

    @property
    def home(self) -> Path:
        """Folder of what this machine must not forget."""
        return self.sync.home

    @property
    def prices(self) -> PriceBook:
        """What hosts charge, as plans count it."""
        return self.sync.prices

    @prices.setter
    def prices(self, book: PriceBook) -> None:
        self.sync.prices = book

    async def close(self) -> None:
        """Close the connections. Jobs go on."""
        if self._streaming is not None:
            await self._streaming.close()
        await _in_thread(self.sync.close)

    check = _method(Client.check)
    upload = _method(Client.upload)
    plan = _method(Client.plan)
    offers = _method(Client.offers)
    plan_accuracy = _method(Client.plan_accuracy)
    find_lost = _method(Client.find_lost)
    chat = _method(Client.chat)
    evaluate = _method(Client.evaluate)
    feedback = _method(Client.feedback)
    family = _method(Client.family)
    models = _method(Client.models)
    delete_model = _method(Client.delete_model)
    files = _method(Client.files)
    delete_file = _method(Client.delete_file)
    pull = _method(Client.pull)
    export = _method(Client.export)
    machine = _method(Client.machine)
    _train = _method(Client.train)
    _job = _method(Client.job)
    _jobs = _method(Client.jobs)
    _forget_launch = _method(Client.forget_launch)

    async def train(self, *args: Any, **options: Any) -> AsyncJob:
        """Start the planned job, exactly once; arguments as for `Client.train`."""
        return AsyncJob(await self._train(*args, **options))

    async def job(self, job_id: str) -> AsyncJob:
        """Return a job by its id, from any process."""
        return AsyncJob(await self._job(job_id))

    async def jobs(self, **options: Any) -> list[AsyncJob]:
        """Return the newest jobs; arguments as for `Client.jobs`."""
        return [AsyncJob(job) for job in await self._jobs(**options)]

    async def forget_launch(self, run_id: str) -> AsyncJob | None:
        """Look once more for an unknown launch's job; without one, `train` with this run id may send it again."""
        found = await self._forget_launch(run_id)
        return AsyncJob(found) if found else None

    async def watch(self, jobs: Sequence[AsyncJob]) -> list[FineTuningJob]:
        """Show several jobs in one live view until all have ended, as `Client.watch` does."""
        from ftclient.view.watch_many import watch_all

        with _Leave() as leave:
            call = functools.partial(watch_all, [job.job for job in jobs], check=leave.check)
            return await _in_thread(call, can_be_left=True)

    async def chat_stream(
        self, model: str, prompt: Prompt, *, system: str | None = None, **options: Any
    ) -> AsyncIterator[str]:
        """Yield the answer piece by piece as it is written; arguments as for `Client.chat`."""
        official = self._official_stream()
        if official is None:
            async for text in _pieces(self.sync.chat_stream(model, prompt, system=system, **options)):
                yield text
            return
        wanted: dict[str, Any] = {**options, "messages": messages_of(prompt, system=system)}
        with errors_of(self.host):
            stream = await official.chat.completions.create(model=model, stream=True, **wanted)
            async with stream:
                async for chunk in stream:
                    if chunk.choices and chunk.choices[0].delta.content:
                        yield chunk.choices[0].delta.content

    def _official_stream(self) -> AsyncOpenAI | None:
        if self._streaming is None:
            self._streaming = connect.asynchronous(self._official)
        return self._streaming
