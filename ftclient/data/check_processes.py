"""Sharing blocks of a file out to worker processes.

Workers are plain subprocesses that speak over their pipes: the caller's `__main__` is never imported again, so this
works from scripts without a guard, from notebooks and from threads. Each worker has one block at a time. A worker
that dies is replaced by this process; nothing is lost.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from itertools import chain, islice
from typing import IO, NamedTuple

from typing_extensions import Self

from ftclient.data.check_lines import BlockChecker, BlockResult, CountTokens
from ftclient.data.check_stats import Tally
from ftclient.data.limits import Limits, Method
from ftclient.data.reader import BLOCK_BYTES
from ftclient.data.report import Issue
from ftclient.data.text_counter import text_counter

_LOG = logging.getLogger(__name__)

HEADER = struct.Struct("<QQ")
"""First line and number of bytes of a block that follows."""
LENGTH = struct.Struct("<Q")
"""Number of bytes of an answer that follows."""

_WORKERS_FROM_BLOCKS = 8
"""For fewer blocks of 1 MiB starting processes takes longer than they save."""
_MAX_WORKERS = 3
"""A worker holds a vocabulary of some 83 MB; three stay below 400 MB in all."""

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from ftclient.data.check_worker import main; main()"


class Numbered(NamedTuple):
    """A block with the number of its first line."""

    block: bytes
    first_line: int


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What blocks are checked by."""

    method: Method
    limits: Limits
    encoding: str | None
    """Counts the tokens; its vocabulary is in tiktoken's cache. None does not count."""

    def to_wire(self) -> bytes:
        """As JSON, for a worker."""
        limits = {**asdict(self.limits), "special_tokens": sorted(self.limits.special_tokens)}
        return json.dumps({"method": self.method, "limits": limits, "encoding": self.encoding}).encode()

    @classmethod
    def from_wire(cls, content: bytes) -> Rules:
        """The rules that `to_wire` wrote."""
        values = json.loads(content)
        limits = values["limits"]
        limits["special_tokens"] = frozenset(limits["special_tokens"])
        return cls(method=values["method"], limits=Limits(**limits), encoding=values["encoding"])

    def checker(self, count_tokens: CountTokens | None = None) -> BlockChecker:
        """A checker by these rules, in this process."""
        counter = None if self.encoding is None else text_counter(self.encoding)
        return BlockChecker(
            method=self.method,
            limits=self.limits,
            counter=counter,
            encoding_name=self.encoding,
            count_tokens=count_tokens,
        )


def check_blocks(
    found: Iterator[Numbered], rules: Rules, *, max_workers: int | None = None, count_tokens: CountTokens | None = None
) -> Iterator[BlockResult]:
    """Check blocks, large files in several processes; the results come in the order of the blocks."""
    n_workers = 0 if count_tokens is not None else _workers_for(max_workers)
    first = list(islice(found, _WORKERS_FROM_BLOCKS if n_workers else 0))
    if len(first) == _WORKERS_FROM_BLOCKS or (first and max_workers is not None):
        with _Pool(rules, n_workers) as pool:
            yield from pool.check(chain(first, found))
    else:
        checker = rules.checker(count_tokens)
        for block, first_line in chain(first, found):
            yield checker.check(block, first_line)


def _workers_for(max_workers: int | None) -> int:
    """How many workers a large file gets; 0 is none."""
    if not sys.executable or getattr(sys, "frozen", False):
        return 0  # there is no interpreter to start
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = min(n_processors, _MAX_WORKERS) if max_workers is None else max_workers
    return wanted if wanted > 1 else 0


class _Worker:
    """One process with the block that it is at."""

    def __init__(self, rules: Rules) -> None:
        command = [sys.executable, "-I", "-c", _START, json.dumps(sys.path)]
        self.process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        _widen(self.process.stdin)
        self.at: Numbered | None = None
        self.index = -1
        self._send(LENGTH.pack(len(wire := rules.to_wire())) + wire)

    @property
    def answers(self) -> IO[bytes]:
        """Where the worker writes."""
        assert self.process.stdout is not None  # noqa: S101  it was asked for a pipe
        return self.process.stdout

    def _send(self, *pieces: bytes) -> None:
        assert self.process.stdin is not None  # noqa: S101  it was asked for a pipe
        try:
            for piece in pieces:
                self.process.stdin.write(piece)
            self.process.stdin.flush()
        except BrokenPipeError:
            _LOG.warning("A worker of the check has died; its work is done here.")

    def start(self, index: int, numbered: Numbered) -> None:
        """Give the worker a block."""
        self.at, self.index = numbered, index
        self._send(HEADER.pack(numbered.first_line, len(numbered.block)), numbered.block)

    def result(self) -> BlockResult | None:
        """Wait for the answer to the block; None if the worker is dead."""
        head = self.answers.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return None
        content = self.answers.read(n_bytes := LENGTH.unpack(head)[0])
        return result_from_wire(content) if len(content) == n_bytes else None

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                _close_quietly(pipe)
        self.process.wait()


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a whole block fit into the pipe, where the system can do that (Linux); it only saves switches."""
    import fcntl

    if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, BLOCK_BYTES)
        except OSError as error:
            _LOG.debug("Pipes stay small: %s", error)


def _close_quietly(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # unsent bytes for a process that is gone


class _Pool:
    """Workers and the results that wait for their turn."""

    def __init__(self, rules: Rules, n_workers: int) -> None:
        self._rules = rules
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._done: dict[int, BlockResult] = {}
        self._n_busy = 0
        for _ in range(n_workers):
            try:
                worker = _Worker(rules)
            except OSError as error:
                _LOG.warning("No worker of the check can be started (%s); its work is done here.", error)
                break
            self._workers.append(worker)
            self._selector.register(worker.answers, selectors.EVENT_READ, worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for worker in self._workers:
            worker.close()

    def check(self, found: Iterator[Numbered]) -> Iterator[BlockResult]:
        """Check all blocks; yields their results in order."""
        idle = list(self._workers)
        n_yielded = 0
        for index, numbered in enumerate(found):
            while not idle and self._n_busy:
                idle = self._collect()
            if idle:
                idle.pop().start(index, numbered)
                self._n_busy += 1
            else:  # there is no worker, or they are all dead
                self._done[index] = self._rules.checker().check(*numbered)
            while n_yielded in self._done:
                yield self._done.pop(n_yielded)
                n_yielded += 1
        while self._n_busy:
            self._collect()
        for index in sorted(self._done):
            yield self._done[index]

    def _collect(self) -> list[_Worker]:
        """Wait for at least one answer, or the end of a worker; returns the workers that are now free."""
        free: list[_Worker] = []
        for key, _ in self._selector.select():
            worker: _Worker = key.data
            at, result = worker.at, worker.result()
            if result is None:
                self._selector.unregister(worker.answers)
            else:
                free.append(worker)
            if at is not None:
                worker.at = None
                self._n_busy -= 1
                self._done[worker.index] = result or self._rules.checker().check(*at)
        return free


def result_to_wire(result: BlockResult) -> bytes:
    """Issues and numbers of a block as JSON."""
    issues = [list(astuple(issue)) for issue in result.issues]
    return json.dumps({"issues": issues, "tally": result.tally.to_wire()}).encode()


def result_from_wire(content: bytes) -> BlockResult:
    """The result that `result_to_wire` wrote."""
    values = json.loads(content)
    return BlockResult(tally=Tally.from_wire(values["tally"]), issues=[Issue(*fields) for fields in values["issues"]])
