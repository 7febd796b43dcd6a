"""Work in threads that keep no program from ending, as those of an executor would."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class Threads(Generic[_Given, _Made]):
    """Some work for many things, a few at a time.

    Args:
        work: What to do.
        given: What to do it for.
        n: How many are done at once.
    """

    def __init__(self, work: Callable[[_Given], _Made], given: Sequence[_Given], *, n: int) -> None:
        self._work = work
        self._n = min(n, len(given))
        self.futures: list[Future[_Made]] = [Future() for _ in given]
        """What comes of each, in their order."""
        self._left: SimpleQueue[tuple[Future[_Made], _Given]] = SimpleQueue()
        for pair in zip(self.futures, given, strict=True):
            self._left.put(pair)

    def start(self) -> None:
        """Begin."""
        for number in range(self._n):
            threading.Thread(target=self._run, name=f"evaluate-{number}", daemon=True).start()

    def end(self, *, waits: bool) -> None:
        """Begin nothing more; `waits` for what is under way."""
        under_way: list[Future[Any]] = [future for future in self.futures if not future.cancel()]
        if waits:
            wait(under_way)

    def _run(self) -> None:
        while True:
            try:
                future, each = self._left.get_nowait()
            except Empty:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._work(each))
            except BaseException as error:  # noqa: BLE001 - told to whoever waits
                future.set_exception(error)
