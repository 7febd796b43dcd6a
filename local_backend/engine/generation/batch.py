"""Many answers at once from one base model: texts join and leave between tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from local_backend.engine.generation.attention import DecodeStep, PrefillStep, Step
from local_backend.engine.generation.cache import Cache, CacheShape, Row, copy_tokens, restore
from local_backend.engine.generation.lora import Adapter, Routing
from local_backend.engine.generation.prefix import Prefixes
from local_backend.engine.generation.sampling import Chosen, Sampling, choose
from local_backend.engine.generation.text import TextStream, Vocabulary
from local_backend.task import Delta, TokenLogprob

_MOST_ROWS = 64
_CHUNK_TOKENS = 512
"""Prompt tokens computed between two decoding steps: enough to keep the processor busy, few enough to go on talking."""


@dataclass(kw_only=True, eq=False)
class Run:
    """One choice of one request."""

    index: int
    ids: list[int]
    """The prompt, then what was generated."""
    most_tokens: int
    stop_ids: frozenset[int]
    sampling: Sampling
    stream: TextStream
    adapter: Adapter | None
    send: Callable[[Delta | Exception], None]
    is_cancelled: Callable[[], bool]
    images: tuple[bytes, ...] = ()
    """What a model that sees reads beside the prompt."""
    n_generated: int = 0
    _unsent_tokens: int = field(default=0, repr=False)

    @property
    def adapter_key(self) -> str | None:
        """What keys and values of this text depend on beside its tokens."""
        return self.adapter.key if self.adapter else None

    def accept(self, chosen: Chosen, vocabulary: Vocabulary) -> bool:
        """Take the next token, send what may be sent, and tell whether the answer ends here."""
        if chosen.token in self.stop_ids:
            self._send_last("stop", *self.stream.finish())
            return True
        self.ids.append(chosen.token)
        self.n_generated += 1
        self._unsent_tokens += 1
        text, logprobs = self.stream.feed(chosen.token, _logprob(chosen, vocabulary))
        if self.stream.stopped:
            self._send_last("stop", text, logprobs)
        elif self.n_generated == self.most_tokens:
            rest, more = self.stream.finish()
            self._send_last("length", text + rest, logprobs + more)
        else:
            if text or logprobs:
                self._send(text, logprobs, None)
            return False
        return True

    def _send_last(self, reason: Literal["stop", "length"], text: str, logprobs: list[TokenLogprob]) -> None:
        self._send(text, logprobs, reason)

    def _send(self, text: str, logprobs: list[TokenLogprob], reason: Literal["stop", "length"] | None) -> None:
        n_tokens, self._unsent_tokens = self._unsent_tokens, 0
        self.send(Delta(index=self.index, text=text, logprobs=logprobs, finish_reason=reason, n_tokens=n_tokens))


@dataclass(eq=False)
class _Prefill:
    run: Run
    row: Row


class Batch:
    """The runs of one model. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        model: Any,
        *,
        shape: CacheShape,
        routing: Routing,
        vocabulary: Vocabulary,
        prefix_bytes: int,
        most_bytes: int,
    ) -> None:
        self._model = model
        self._routing = routing
        self._vocabulary = vocabulary
        self._cache, self._prefill_cache = _caches(shape)
        self._prefixes = Prefixes(prefix_bytes)
        self._most_bytes = most_bytes
        self._waiting: deque[Run] = deque()
        self._prefilling: _Prefill | None = None
        self._running: dict[Row, Run] = {}

    def add(self, run: Run) -> None:
        """Let a run join; it starts in one of the next turns."""
        self._waiting.append(run)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._prefilling or self._running)

    def turn(self) -> None:
        """Let cancelled runs go, compute some prompt tokens, and one more token of every running answer."""
        self._drop_cancelled()
        budget = _CHUNK_TOKENS
        while budget > 0 and self._next_prefill():
            budget -= self._prefill_chunk(budget)
        if self._running:
            self._decode()

    def fail(self, error: Exception) -> None:
        """End all runs with an error and start afresh."""
        runs = [*self._waiting, *self._running.values()]
        if self._prefilling:
            runs.append(self._prefilling.run)
        self._waiting.clear()
        self._running.clear()
        self._prefilling = None
        self._cache, self._prefill_cache = _caches(self._cache.shape)
        for run in runs:
            run.send(error)

    def _drop_cancelled(self) -> None:
        self._waiting = deque(run for run in self._waiting if not run.is_cancelled())
        if self._prefilling and self._prefilling.run.is_cancelled():
            self._prefill_cache.free(self._prefilling.row)
            self._prefilling = None
        for row, run in list(self._running.items()):
            if run.is_cancelled():
                self._leave(row)

    def _next_prefill(self) -> bool:
        """Make sure that a prompt is being computed; False when none waits or there is no room now."""
        if self._prefilling:
            return True
        if not self._waiting or not self._has_room(self._waiting[0]):
            return False
        # It waits on while it gets its place, so that its reader hears of an error.
        run = self._waiting[0]
        row = self._prefill_cache.take(len(run.ids))
        saved, n_known = self._prefixes.longest(run.ids, adapter=run.adapter_key)
        if saved is not None:
            restore(saved, to=row, n_tokens=n_known)
        self._prefilling = _Prefill(self._waiting.popleft(), row)
        return True

    def _has_room(self, run: Run) -> bool:
        if not self._running:
            return True
        needed = self._cache.shape.bytes_of(2 * len(run.ids))
        return len(self._running) < _MOST_ROWS and self._cache.size_bytes() + needed <= self._most_bytes

    def _prefill_chunk(self, budget: int) -> int:
        """Compute up to `budget` tokens of the current prompt and return how many they were."""
        if self._prefilling is None:
            return 0
        run, row = self._prefilling.run, self._prefilling.row
        new = run.ids[row.n_tokens : row.n_tokens + budget]
        positions = range(row.n_tokens, row.n_tokens + len(new))
        self._routing.set([run.adapter], self._cache.shape.device)
        logits_1V = self._forward([new], [list(positions)], PrefillStep(row, len(new)))
        row.n_tokens += len(new)
        if row.n_tokens == len(run.ids):
            self._start(run, row, logits_1V)
        return len(new)

    def _start(self, run: Run, row: Row, logits_1V: Tensor) -> None:
        """Move a computed prompt among the running texts, with its first token."""
        self._prefixes.keep(run.ids, row, adapter=run.adapter_key)
        if not run.accept(choose(logits_1V, [run.sampling])[0], self._vocabulary):
            place = self._cache.take(row.n_tokens + 1)
            copy_tokens(row, to=place, n_tokens=row.n_tokens)
            self._running[place] = run
        self._prefilling = None
        self._prefill_cache.free(row)

    def _decode(self) -> None:
        for row, run in list(self._running.items()):
            wider = self._cache.with_room(row)
            if wider is not row:
                del self._running[row]
                self._running[wider] = run
        lanes = list(self._cache.lanes.values())
        rows = [row for lane in lanes for row in lane.rows]
        runs = [self._running[row] for row in rows]
        device = self._cache.shape.device
        step = DecodeStep(lanes, device)
        self._routing.set([run.adapter for run in runs], device)
        logits_BV = self._forward([[run.ids[-1]] for run in runs], step.positions_B1, step)
        for row in rows:
            row.n_tokens += 1
        for row, run, chosen in zip(rows, runs, choose(logits_BV, [run.sampling for run in runs]), strict=True):
            if run.accept(chosen, self._vocabulary):
                self._prefixes.keep(run.ids, row, adapter=run.adapter_key)
                self._leave(row)

    def _leave(self, row: Row) -> None:
        del self._running[row]
        self._cache.free(row)

    def _forward(self, ids: Sequence[Sequence[int]], positions: Any, step: Step) -> Tensor:
        device = self._cache.shape.device
        logits_BTV: Tensor = self._model(
            input_ids=torch.tensor(ids, device=device),
            position_ids=torch.as_tensor(positions, device=device),
            use_cache=False,
            logits_to_keep=1,
            step=step,
        ).logits
        return logits_BTV[:, -1]


def _caches(shape: CacheShape) -> tuple[Cache, Cache]:
    """Where answers are written, and where one prompt at a time is computed."""
    return Cache(shape), Cache(shape, most_rows_ahead=1)


def _logprob(chosen: Chosen, vocabulary: Vocabulary) -> TokenLogprob | None:
    if chosen.logprob is None:
        return None
    data = vocabulary.bytes_of(chosen.token)
    spelled = [(vocabulary.bytes_of(token), logprob) for token, logprob in chosen.top]
    return TokenLogprob(
        token=data.decode("utf-8", "replace"),
        logprob=chosen.logprob,
        bytes=tuple(data),
        top=tuple((text.decode("utf-8", "replace"), logprob, tuple(text)) for text, logprob in spelled),
    )
