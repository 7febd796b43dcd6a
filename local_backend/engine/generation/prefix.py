"""Beginnings of texts that were computed before, so that a shared system prompt or an earlier turn costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from local_backend.engine.generation.cache import Row, Snapshot, snapshot

_WORTH_KEEPING_TOKENS = 32
"""Fewer new tokens than this are computed again sooner than they are looked up and copied."""


@dataclass(frozen=True, eq=False)
class _Entry:
    adapter: str | None
    ids: npt.NDArray[np.int64]
    saved: Snapshot


class Prefixes:
    """The latest beginnings, up to a budget of memory."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._entries: list[_Entry] = []

    def longest(self, ids: Sequence[int], *, adapter: str | None) -> tuple[Snapshot | None, int]:
        """Return the snapshot that shares the longest beginning, and its length in tokens.

        The last token is never counted as known: its logits are what the caller is after.
        """
        wanted = np.asarray(ids[:-1])
        best, best_length = None, 0
        for entry in self._entries:
            length = _shared(entry.ids, wanted) if entry.adapter == adapter else 0
            if length > best_length:
                best, best_length = entry, length
        if best is None:
            return None, 0
        self._entries.remove(best)
        self._entries.append(best)
        return best.saved, best_length

    def keep(self, ids: Sequence[int], row: Row, *, adapter: str | None) -> None:
        """Remember what a row holds, unless an entry has nearly all of it; the longest unused entries go."""
        held = np.asarray(ids[: row.n_tokens])
        known = max((_shared(e.ids, held) for e in self._entries if e.adapter == adapter), default=0)
        if len(held) - known < _WORTH_KEEPING_TOKENS:
            return
        self._entries.append(_Entry(adapter, held, snapshot(row)))
        while self._entries and sum(entry.saved.size_bytes for entry in self._entries) > self._budget_bytes:
            self._entries.pop(0)


def _shared(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> int:
    length = min(len(one), len(other))
    different = one[:length] != other[:length]
    return int(different.argmax()) if different.any() else length
