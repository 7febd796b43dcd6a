"""What parts of a training cost on this machine, in seconds, and what a whole pack costs by that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from local_backend.engine.forecast.size import Shape

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """What is computed of one pack, or of all packs of an epoch together."""

    packs: float = 0.0
    blocks: float = 0.0
    """Packs times blocks."""
    block_tokens: float = 0.0
    """Tokens times blocks that compute them."""
    block_pairs: float = 0.0
    """Pairs of a token and one that it sees, times blocks."""
    rows: float = 0.0
    """Rows of the output layer."""

    def __add__(self, more: Work) -> Work:
        """Both one after the other."""
        return Work(
            self.packs + more.packs,
            self.blocks + more.blocks,
            self.block_tokens + more.block_tokens,
            self.block_pairs + more.block_pairs,
            self.rows + more.rows,
        )

    def __mul__(self, times: float) -> Work:
        """The same so many times."""
        return Work(
            times * self.packs,
            times * self.blocks,
            times * self.block_tokens,
            times * self.block_pairs,
            times * self.rows,
        )


@dataclass(frozen=True)
class Rate:
    """Seconds for each unit of `Work`; rows are the output layer's and have a rate of their own."""

    per_pack_s: float = 0.0
    per_block_s: float = 0.0
    per_block_token_s: float = 0.0
    per_block_pair_s: float = 0.0
    per_row_s: float = 0.0

    def seconds(self, work: Work) -> float:
        """What the work takes."""
        return (
            self.per_pack_s * work.packs
            + self.per_block_s * work.blocks
            + self.per_block_token_s * work.block_tokens
            + self.per_block_pair_s * work.block_pairs
            + self.per_row_s * work.rows
        )


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured of a machine for one model and one way of tuning."""

    start_s: float
    """From the start of a process to torch and this engine being loaded."""
    load_s: float
    """Reading the weights, comparing with transformers, adding what trains."""
    process_bytes: int | None
    """Held in memory by the process beside the weights, once they are loaded; None: not measured."""
    train: Rate
    """Forward and backward."""
    forward: Rate
    per_step_s: float
    per_trained_weight_s: float
    """Clipping and the optimizer."""
    write_bytes_per_s: float
    """Files, until they are safe on disk."""
    sync_s: float
    """Making one small file safe on disk."""
    watts: float | None = None
    """Drawn by the GPU while it trains, if it says so."""


LEAST_EXPLAINED = 0.75
"""A time of which the fit explains less than this share of what it explains of the median was disturbed."""
GUESSED_FLOPS = 1e11
"""Operations a second of two cores, for a machine that could not be measured."""


def guessed(shape: Shape) -> Costs:
    """What a machine of two cores would need, for one that could not be measured."""
    token_s, row_s = 2 * shape.block / GUESSED_FLOPS, 2 * shape.D * shape.V / GUESSED_FLOPS
    pair_s = 4 * shape.H * shape.K / GUESSED_FLOPS
    return Costs(
        start_s=4.0,
        load_s=4.0,
        process_bytes=None,
        train=Rate(0.1, 0.0, 2.5 * token_s, 3 * pair_s, 2 * row_s),
        forward=Rate(0.05, 0.0, token_s, pair_s, row_s),
        per_step_s=0.0,
        per_trained_weight_s=2e-9,
        write_bytes_per_s=2e8,
        sync_s=0.01,
    )


def fit(works: Sequence[Work], seconds: Sequence[float]) -> Rate:
    """The rates, none negative, that explain measured times best; relative errors count.

    Times that are far longer than the others explain were disturbed by other programs, and are left out.
    """
    rows = np.array([(one.packs, one.blocks, one.block_tokens, one.block_pairs) for one in works], dtype=float)
    scaled = rows / np.array(seconds)[:, None]
    share_explained = scaled @ _nonnegative(scaled, np.ones(len(works)))
    is_calm = share_explained > LEAST_EXPLAINED * float(np.median(share_explained))
    found = _nonnegative(scaled[is_calm], np.ones(int(is_calm.sum())))
    return Rate(*(float(value) for value in found))


def fit_rows(n_rows: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Seconds a pack and seconds a row of the output layer."""
    scaled = np.array([(1.0, n) for n in n_rows]) / np.array(seconds)[:, None]
    per_pack_s, per_row_s = _nonnegative(scaled, np.ones(len(n_rows)))
    return float(per_pack_s), float(per_row_s)


def _nonnegative(matrix: _Array, wanted: _Array) -> _Array:
    """Least squares without negative numbers: the most negative column is left out until none is."""
    kept = [k for k in range(matrix.shape[1]) if matrix[:, k].any()]
    found = np.zeros(matrix.shape[1])
    while kept:
        size = np.linalg.norm(matrix[:, kept], axis=0)
        solution = np.linalg.lstsq(matrix[:, kept] / size, wanted, rcond=1e-6)[0] / size
        if solution.min() >= 0:
            found[kept] = solution
            break
        kept.pop(int((solution * size).argmin()))
    return found
