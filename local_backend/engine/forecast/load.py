"""What the files of a task make the machine compute: measured on some steps, and scaled to an epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from local_backend.engine.attention import plan_attention
from local_backend.engine.forecast.costs import Work
from local_backend.engine.forecast.size import Shape
from local_backend.engine.packing import Pack, micro_batches, own_tokens, pack
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
    n_tokens: float
    """Of all examples, each by itself."""
    steps: int
    """Of the optimizer."""
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
    chosen = range(0, n_steps, max(1, n_steps // SAMPLED_STEPS))
    steps = [
        [rows[i].parts for i in step_indices(len(rows), batch_size=batch_size, seed=seed, step=step)] for step in chosen
    ]
    parts = [row.parts for row in rows]
    found = _measured(parts, steps, n_tokens=n_tokens, max_tokens=max_tokens, is_packed=is_packed)
    return replace(found, steps=-(-n_examples // batch_size))


def measure_whole(
    rows: Sequence[Row], *, n_tokens: int, max_tokens: int, is_packed: bool, frozen: bool = False
) -> Load:
    """The same of a file that is gone through in one go, as evaluations and the frozen blocks do.

    Args:
        rows: The examples, or runs of them that begin alike.
        n_tokens: Of all examples.
        max_tokens: Most tokens computed at once.
        is_packed: Whether the model is one that packs are known to be right for.
        frozen: Whether parts of an example may be computed apart.
    """
    parts: list[Sequence[Rendered]] = (
        [(part,) for row in rows for part in row.parts] if frozen else [row.parts for row in rows]
    )
    return _measured(parts, [parts], n_tokens=n_tokens, max_tokens=max_tokens, is_packed=is_packed)


def measure_alone(groups: Sequence[Sequence[Rendered]], *, n_tokens: float, is_packed: bool) -> Load:
    """The same of examples that are too long to be computed with others; the longest is always looked at."""
    ordered = sorted(groups, key=_n_tokens, reverse=True)
    started = time.perf_counter()
    some = ordered[:: max(1, len(ordered) // SAMPLED_BATCHES)]
    packs = [_laid_out(group, is_packed=is_packed) for group in some]
    times = n_tokens / max(1, sum(map(_n_tokens, some)))
    return _scaled(packs, n_tokens=n_tokens, times=times, prepare_s=times * (time.perf_counter() - started))


def together(loads: Sequence[Load]) -> Load:
    """Several passes, one after the other."""
    return Load(
        packs=sum(one.packs for one in loads),
        tokens=sum(one.tokens for one in loads),
        pairs=sum(one.pairs for one in loads),
        rows=sum(one.rows for one in loads),
        n_tokens=sum(one.n_tokens for one in loads),
        steps=sum(one.steps for one in loads),
        prepare_s=sum(one.prepare_s for one in loads),
        largest_tokens=max((one.largest_tokens for one in loads), default=0),
        largest_rows=max((one.largest_rows for one in loads), default=0),
    )


def _measured(
    groups: Sequence[Sequence[Rendered]],
    steps: Sequence[Sequence[Sequence[Rendered]]],
    *,
    n_tokens: int,
    max_tokens: int,
    is_packed: bool,
) -> Load:
    """Lay out batches of steps, spread over all, and what is alone in its batch apart.

    One long example costs more than its share of the tokens, so that whether a step with one is among those looked at
    would decide about all.
    """
    alone = [group for group in groups if own_tokens(group) > max_tokens]
    share = sum(map(_n_tokens, alone)) / max(1, sum(map(_n_tokens, groups)))
    found = [measure_alone(alone, n_tokens=share * n_tokens, is_packed=is_packed)] if alone else []
    started = time.perf_counter()
    shared = [[group for group in step if own_tokens(group) <= max_tokens] for step in steps]
    batches = [
        [step[i] for i in batch]
        for step in shared
        for batch in _batches(step, max_tokens=max_tokens, is_packed=is_packed)
    ]
    split_s = time.perf_counter() - started
    if len(steps) == 1:
        batches = batches[:: max(1, len(batches) // SAMPLED_BATCHES)]
    packs = [_laid_out([one for group in batch for one in group], is_packed=is_packed) for batch in batches]
    laid_out_s = time.perf_counter() - started - split_s
    rest = (1 - share) * n_tokens
    seen = sum(_n_tokens(group) for batch in batches for group in batch)
    looked_at = sum(_n_tokens(group) for step in shared for group in step)
    if seen:
        prepare_s = rest * (laid_out_s / seen + split_s / looked_at)
        found.append(_scaled(packs, n_tokens=rest, times=rest / seen, prepare_s=prepare_s))
    return together(found)


def _n_tokens(group: Sequence[Rendered]) -> int:
    return sum(len(one.ids) for one in group)


def _batches(groups: Sequence[Sequence[Rendered]], *, max_tokens: int, is_packed: bool) -> list[list[int]]:
    return list(micro_batches(groups, max_tokens=max_tokens)) if is_packed else [[i] for i in range(len(groups))]


def _laid_out(sequences: Sequence[Rendered], *, is_packed: bool) -> Pack:
    found = pack(sequences, shares_prefixes=is_packed)
    plan_attention(found)
    return found


def _scaled(packs: Sequence[Pack], *, n_tokens: float, times: float, prepare_s: float) -> Load:
    return Load(
        packs=times * len(packs),
        tokens=times * sum(one.n_tokens for one in packs),
        pairs=times * float(sum(int((one.positions_T + 1).sum()) for one in packs)),
        rows=times * sum(len(one.row_targets_R) for one in packs),
        n_tokens=n_tokens,
        steps=0,
        prepare_s=prepare_s,
        largest_tokens=max((one.n_tokens for one in packs), default=0),
        largest_rows=max((len(one.row_targets_R) for one in packs), default=0),
    )
