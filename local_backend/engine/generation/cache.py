"""Keys and values of everything that is being generated, so laid out that short and long texts don't hurt each other.

Rows live in lanes. All rows of a lane have the same capacity (a power of two), so that one attention call serves the
whole lane, and a text of 8,000 tokens does not make its neighbours of 80 pay for its length.

Shapes: L layers, R rows, K key-value heads, C capacity in tokens, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST_CAPACITY = 256
_MOST_ROWS_AHEAD = 4
_TOKENS_AHEAD = 4096
"""A lane's first room, where a row takes less: short texts seldom come alone, and long ones are gigabytes."""


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """What one token costs: all layers alike."""

    n_layers: int
    n_kv_heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device

    def bytes_of(self, n_tokens: int) -> int:
        """Return the memory that the keys and values of so many tokens take."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_size * n_tokens * self.dtype.itemsize

    def room(self, rows: int, capacity: int) -> Tensor:
        """Return empty room, shaped LRKCD.

        Zeros, not whatever was in memory: what a mask hides is still multiplied, and NaN times nothing is NaN.
        """
        shape = (self.n_layers, rows, self.n_kv_heads, capacity, self.head_size)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)


@dataclass(eq=False)
class Row:
    """The place of one text in the cache. `n_tokens` of its `capacity` are filled."""

    lane: Lane
    index: int
    n_tokens: int = 0


class Lane:
    """Rows of one capacity; rows 0 to `len(rows)` are in use, without gaps."""

    def __init__(self, shape: CacheShape, capacity: int, *, most_rows_ahead: int) -> None:
        self.shape = shape
        self.capacity = capacity
        self._first_rows = max(1, min(most_rows_ahead, _TOKENS_AHEAD // capacity))
        self.rows: list[Row] = []
        self.keys_LRKCD = shape.room(0, capacity)
        self.values_LRKCD = shape.room(0, capacity)

    def take(self) -> Row:
        """Return a new, empty row."""
        if len(self.rows) == self.keys_LRKCD.shape[1]:
            self._grow()
        row = Row(lane=self, index=len(self.rows))
        self.rows.append(row)
        return row

    def free(self, row: Row) -> None:
        """Give a row back; the last row moves into its place. An empty lane lets its memory go."""
        last = self.rows.pop()
        if last is not row:
            filled = slice(0, last.n_tokens)
            self.keys_LRKCD[:, row.index, :, filled] = self.keys_LRKCD[:, last.index, :, filled]
            self.values_LRKCD[:, row.index, :, filled] = self.values_LRKCD[:, last.index, :, filled]
            last.index = row.index
            self.rows[row.index] = last
        if not self.rows:
            self.keys_LRKCD = self.shape.room(0, self.capacity)
            self.values_LRKCD = self.shape.room(0, self.capacity)

    def _grow(self) -> None:
        rows = max(self._first_rows, 2 * len(self.rows))
        for name in ("keys_LRKCD", "values_LRKCD"):
            old, new = getattr(self, name), self.shape.room(rows, self.capacity)
            new[:, : old.shape[1]] = old
            setattr(self, name, new)


class Cache:
    """All lanes of one model.

    Args:
        shape: What a token takes.
        most_rows_ahead: How many rows a lane makes room for when its first text comes.
    """

    def __init__(self, shape: CacheShape, *, most_rows_ahead: int = _MOST_ROWS_AHEAD) -> None:
        self.shape = shape
        self._most_rows_ahead = most_rows_ahead
        self.lanes: dict[int, Lane] = {}

    def take(self, n_tokens: int) -> Row:
        """Return an empty row with room for at least so many tokens."""
        capacity = _capacity_for(n_tokens)
        if capacity not in self.lanes:
            self.lanes[capacity] = Lane(self.shape, capacity, most_rows_ahead=self._most_rows_ahead)
        return self.lanes[capacity].take()

    def free(self, row: Row) -> None:
        """Give a row back."""
        row.lane.free(row)
        if not row.lane.rows:
            self.lanes.pop(row.lane.capacity, None)

    def with_room(self, row: Row) -> Row:
        """Return a row for the same text that has room for one more token; full rows move to the next lane."""
        if row.n_tokens < row.lane.capacity:
            return row
        wider = self.take(row.n_tokens + 1)
        copy_tokens(row, to=wider, n_tokens=row.n_tokens)
        self.free(row)
        return wider

    def size_bytes(self) -> int:
        """Return the memory that the lanes hold."""
        return sum(lane.keys_LRKCD.nbytes + lane.values_LRKCD.nbytes for lane in self.lanes.values())


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The keys and values of a text on their own, to start other texts from."""

    keys_LKCD: Tensor
    values_LKCD: Tensor

    @property
    def size_bytes(self) -> int:
        """Memory in use."""
        return self.keys_LKCD.nbytes + self.values_LKCD.nbytes


def snapshot(row: Row) -> Snapshot:
    """Copy what a row holds."""
    filled = slice(0, row.n_tokens)
    lane = row.lane
    return Snapshot(
        lane.keys_LRKCD[:, row.index, :, filled].clone(), lane.values_LRKCD[:, row.index, :, filled].clone()
    )


def restore(saved: Snapshot, *, to: Row, n_tokens: int) -> None:
    """Fill an empty row with the first tokens of a snapshot."""
    to.lane.keys_LRKCD[:, to.index, :, :n_tokens] = saved.keys_LKCD[:, :, :n_tokens]
    to.lane.values_LRKCD[:, to.index, :, :n_tokens] = saved.values_LKCD[:, :, :n_tokens]
    to.n_tokens = n_tokens


def copy_tokens(row: Row, *, to: Row, n_tokens: int) -> None:
    """Fill a row with the first tokens of another."""
    here, there = (row.lane, row.index), (to.lane, to.index)
    there[0].keys_LRKCD[:, there[1], :, :n_tokens] = here[0].keys_LRKCD[:, here[1], :, :n_tokens]
    there[0].values_LRKCD[:, there[1], :, :n_tokens] = here[0].values_LRKCD[:, here[1], :, :n_tokens]
    to.n_tokens = n_tokens


def _capacity_for(n_tokens: int) -> int:
    return max(_SMALLEST_CAPACITY, 1 << max(0, n_tokens - 1).bit_length())
