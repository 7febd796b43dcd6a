"""How many questions may be under way at a host: fewer when it asks for quiet, more again when it does not."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_FIRST_PAUSE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A time in which nobody asks."""

    number: int
    """From 1: how many pauses there were in a row, with no good answer in between."""
    seconds: float


class Pace:
    """Shared by all threads that ask one host.

    Args:
        most: Questions under way at once, at most.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._limit = float(most)
        self._under_way = 0
        self._n_pauses = 0
        self._quiet_until = 0.0
        self._news = threading.Condition()
        self.is_over = False
        """Set when nobody is to ask any more."""

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return max(1, int(self._limit))

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Wait for one's turn; False: there is none any more."""
        with self._news:
            while not self.is_over and (wait_s := self._wait_s()) is not None:
                self._news.wait(wait_s)
            self._under_way += 1
        try:
            yield not self.is_over
        finally:
            with self._news:
                self._under_way -= 1
                self._news.notify()

    def went_well(self) -> None:
        """Let one more ask after as many good answers as may be under way."""
        with self._news:
            self._n_pauses = 0
            self._limit = min(self._most, self._limit + 1 / self._limit)

    def be_quiet(self, asked_s: float | None = None, *, began: float) -> Pause | None:
        """Let nobody ask for a while, and then half as many as before.

        Args:
            asked_s: How long the host asks to be left alone; None is half a second, and twice as long with each pause
                in a row.
            began: When the question that failed was asked, as `time.monotonic()` counts.

        Returns:
            The pause; None if the question was under way before the last one ended, and so belongs to it.
        """
        with self._news:
            is_new = began >= self._quiet_until
            if is_new:
                self._limit = max(1.0, self._limit / 2)
                self._n_pauses += 1
            seconds = self._backoff_s() if asked_s is None else asked_s
            self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)
            return Pause(number=self._n_pauses, seconds=seconds) if is_new else None

    def end(self) -> None:
        """Let nobody ask any more."""
        with self._news:
            self.is_over = True
            self._news.notify_all()

    def _backoff_s(self) -> float:
        return _FIRST_PAUSE_S * 2.0 ** max(0, self._n_pauses - 1) * random.uniform(0.75, 1.0)  # noqa: S311 - no secret

    def _wait_s(self) -> float | None:
        """How long to wait at least; None: go."""
        quiet_s = self._quiet_until - time.monotonic()
        if quiet_s > 0:
            return quiet_s
        return None if self._under_way < self.limit else 60.0
