"""Which lines of a large file a plan looks at: some drawn at random, some runs of neighbours, and the longest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ftclient.data import reader

SAMPLE_BYTES = 5 << 20
"""About so much is drawn at random: less than two seconds of rendering."""
NEIGHBOUR_BYTES, N_RUNS = 3 << 20, 10
"""So much more in so many runs of lines that stand next to each other when sorted: they share prefixes as all do, but
for those at a run's ends."""
N_LONGEST = 64
"""Lines that are looked at in any case: they decide about memory, and whether the context is long enough."""
LEAST_SAMPLED = 500

_SEED = 20_240_229
_KEY_BYTES, _KEYS_ROOM = 512, 64 << 20
"""Lines are sorted by so much of what follows their common beginning; by less where they are very many."""
_LEAST_KEY_BYTES = 16
_OTHER_LETTERS = 2.5
"""Bytes of other letters than English ones make more tokens: those of Japanese, about so many times as many."""
_ASCII = bytes(range(128))


@dataclass(frozen=True)
class Lines:
    """The lines of a file that are not blank. N of them."""

    numbers_N: npt.NDArray[np.int64]
    bytes_N: npt.NDArray[np.int64]
    weights_N: npt.NDArray[np.float64]
    """How many tokens they have, compared with each other: a guess from their bytes."""
    n_common: int
    """Bytes that all begin with."""

    @property
    def n_bytes(self) -> int:
        """Of all lines."""
        return int(self.bytes_N.sum())

    @cached_property
    def weights(self) -> dict[int, float]:
        """Weights by the number of the line."""
        return dict(zip(self.numbers_N.tolist(), self.weights_N.tolist(), strict=True))


def read_lines(path: Path) -> Lines:
    """Look at the lines of a file without parsing any."""
    found: list[tuple[int, int, float]] = []
    common: bytes | None = None
    for number, raw in _lines(path):
        n_others = 0 if raw.isascii() else len(raw.translate(None, _ASCII))
        found.append((number, len(raw), len(raw) + (_OTHER_LETTERS - 1) * n_others))
        if common is None:
            common = raw
        elif not raw.startswith(common):
            common = common[: _n_common(common, raw)]
    numbers, sizes, weights = zip(*found, strict=True) if found else ((), (), ())
    return Lines(np.array(numbers, np.int64), np.array(sizes, np.int64), np.array(weights), len(common or b""))


def drawn(lines: Lines) -> set[int]:
    """Lines drawn at random, without putting any back, until there is enough; the same for the same file."""
    n = len(lines.numbers_N)
    order_N = np.random.Generator(np.random.Philox(key=[_SEED, n])).permutation(n)
    before_N = np.cumsum(lines.bytes_N[order_N]) - lines.bytes_N[order_N]
    n_drawn = max(LEAST_SAMPLED, int(np.searchsorted(before_N, SAMPLE_BYTES)))
    return set(lines.numbers_N[order_N[:n_drawn]].tolist())


def longest(lines: Lines) -> set[int]:
    """The lines that have most bytes, and those that have most tokens by their weight."""
    found: set[int] = set()
    for sizes_N in (lines.bytes_N, lines.weights_N):
        found.update(lines.numbers_N[np.argsort(-sizes_N, kind="stable")[: N_LONGEST // 2]].tolist())
    return found


def neighbours(path: Path, lines: Lines) -> set[int]:
    """Runs of lines that stand next to each other when sorted, spread over all."""
    n = len(lines.numbers_N)
    n_key_bytes = max(_LEAST_KEY_BYTES, min(_KEY_BYTES, _KEYS_ROOM // n))
    keys = [raw[lines.n_common : lines.n_common + n_key_bytes] for _, raw in _lines(path)]
    order_N = np.array(sorted(range(n), key=keys.__getitem__))
    found: set[int] = set()
    for run_M in np.array_split(order_N, N_RUNS):
        middle_M = run_M[len(run_M) // 3 :]
        n_taken = 1 + int(np.searchsorted(np.cumsum(lines.bytes_N[middle_M]), NEIGHBOUR_BYTES // N_RUNS))
        found.update(lines.numbers_N[middle_M[:n_taken]].tolist())
    return found


def _n_common(one: bytes, other: bytes) -> int:
    differing = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    with reader.open_binary(path) as file:
        yield from ((number, raw) for number, raw in enumerate(file, start=1) if not raw.isspace())
