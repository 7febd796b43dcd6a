"""What the files of a task make the machine compute: measured on some steps, and scaled to an epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from local_backend.engine.attention import plan_attention
from local_backend.engine.forecast.costs import Work
from local_backend.engine.forecast.size import Shape
from local_backend.engine.packing import Pack, micro_batches, pack
from local_backend.engine.rows import Row, step_indices
from local_backend.engine.template import Rendered

SAMPLED_STEPS = 24
SAMPLED_BATCHES = 100
"""Of a pass in one go: at least so many are laid out, spread over all; they differ less than steps do."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One pass over a file."""

    packs: float
    tokens: float
    """Computed ones: prefixes that a pack shares count once."""
    pairs: float
    """Of a token and one that it sees."""
    rows: float
    """Trained positions, which the output layer is asked about."""
    n_tokens: int
    """Of all examples, each by itself."""
    steps: int
    prepare_s: float
    """Laying out the packs."""
    largest_tokens: int
    """Most that a pack computes."""
    largest_rows: int

    def work(self, shape: Shape, *, n_blocks: int) -> Work:
        """The same as work of the last `n_blocks` blocks and the output layer."""
        return _work(self.packs, self.tokens, self.pairs, self.rows, n_blocks=n_blocks, shape=shape)


def work_of(part: Pack, *, n_blocks: int, shape: Shape) -> Work:
    """The work of one pack in so many blocks, the last of which computes little but the rows."""
    pairs = float((part.positions_T + 1).sum())
    return _work(1.0, part.n_tokens, pairs, len(part.row_targets_R), n_blocks=n_blocks, shape=shape)


def _work(packs: float, tokens: float, pairs: float, rows: float, *, n_blocks: int, shape: Shape) -> Work:
    if n_blocks == 0:
        return Work(packs=packs, rows=rows)
    share = shape.projected / shape.block
    last = share * tokens + (1 - share) * rows
    return Work(
        packs=packs,
        blocks=packs * n_blocks,
        block_tokens=(n_blocks - 1) * tokens + last,
        block_pairs=n_blocks * pairs,
        rows=rows,
    )


def measure_load(
    rows: Sequence[Row],
    *,
    n_examples: int,
    n_tokens: int,
    batch_size: int,
    seed: int,
    max_tokens: int,
    is_packed: bool,
) -> Load:
    """Lay out some steps as the training does, and scale them to all.

    Args:
        rows: The examples in the file's order, or some of them drawn at random.
        n_examples: All examples.
        n_tokens: Theirs.
        batch_size: Examples a step.
        seed: Of the order.
        max_tokens: Most tokens computed at once.
        is_packed: Whether the model is one that packs are known to be right for.
    """
    n_steps = -(-len(rows) // batch_size)
    started = time.perf_counter()
    packs, seen = [], 0
    chosen = range(0, n_steps, max(1, n_steps // SAMPLED_STEPS))
    for step in chosen:
        visited = [rows[i] for i in step_indices(len(rows), batch_size=batch_size, seed=seed, step=step)]
        packs += _packs([row.parts for row in visited], max_tokens=max_tokens, is_packed=is_packed)
        seen += sum(row.n_tokens for row in visited)
    prepare_s = time.perf_counter() - started
    times, n_steps = n_tokens / max(1, seen), -(-n_examples // batch_size)
    return _scaled(packs, n_tokens=n_tokens, times=times, n_steps=n_steps, prepare_s=times * prepare_s)


def measure_whole(
    rows: Sequence[Row], *, n_tokens: int, max_tokens: int, is_packed: bool, frozen: bool = False
) -> Load:
    """The same of files that are gone through in one go, as evaluations and the frozen blocks do."""
    groups: list[Sequence[Rendered]] = (
        [(part,) for row in rows for part in row.parts] if frozen else [row.parts for row in rows]
    )
    started = time.perf_counter()
    batches = _batches(groups, max_tokens=max_tokens, is_packed=is_packed)
    split_s = time.perf_counter() - started
    chosen = batches[:: max(1, len(batches) // SAMPLED_BATCHES)]
    packs = [_laid_out(groups, batch, is_packed=is_packed) for batch in chosen]
    laid_out_s = time.perf_counter() - started - split_s
    times = n_tokens / sum(len(one.ids) for batch in chosen for i in batch for one in groups[i])
    prepare_s = times * laid_out_s + split_s * n_tokens / sum(row.n_tokens for row in rows)
    return _scaled(packs, n_tokens=n_tokens, times=times, n_steps=1, prepare_s=prepare_s)


def _packs(groups: Sequence[Sequence[Rendered]], *, max_tokens: int, is_packed: bool) -> list[Pack]:
    batches = _batches(groups, max_tokens=max_tokens, is_packed=is_packed)
    return [_laid_out(groups, batch, is_packed=is_packed) for batch in batches]


def _batches(groups: Sequence[Sequence[Rendered]], *, max_tokens: int, is_packed: bool) -> list[list[int]]:
    return list(micro_batches(groups, max_tokens=max_tokens)) if is_packed else [[i] for i in range(len(groups))]


def _laid_out(groups: Sequence[Sequence[Rendered]], batch: Sequence[int], *, is_packed: bool) -> Pack:
    found = pack([one for i in batch for one in groups[i]], shares_prefixes=is_packed)
    plan_attention(found)
    return found


def _scaled(packs: Sequence[Pack], *, n_tokens: int, times: float, n_steps: int, prepare_s: float) -> Load:
    return Load(
        packs=times * len(packs),
        tokens=times * sum(one.n_tokens for one in packs),
        pairs=times * float(sum(int((one.positions_T + 1).sum()) for one in packs)),
        rows=times * sum(len(one.row_targets_R) for one in packs),
        n_tokens=n_tokens,
        steps=n_steps,
        prepare_s=prepare_s,
        largest_tokens=max((one.n_tokens for one in packs), default=0),
        largest_rows=max((len(one.row_targets_R) for one in packs), default=0),
    )
