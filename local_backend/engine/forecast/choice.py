"""How many tokens to compute at once, and whether blocks are computed again: what fits into the machine's memory.

A plan and the job that follows it choose by the same numbers, so they choose the same, unless other programs have taken
or freed memory in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from local_backend.engine.device import Machine
from local_backend.engine.forecast.memory import memory_of
from local_backend.engine.forecast.size import Size
from local_backend.engine.memory import available_bytes
from local_backend.engine.packing import fitting_micro_batch_tokens
from local_backend.engine.recompute import recomputes
from local_backend.engine.rows import Row, step_indices

SHARE_OF_AVAILABLE = 0.9
"""A margin: the formula is right within some percent, and other programs breathe."""
LEAST_TOKENS, MOST_TOKENS = 64, 1 << 20
STEP_TOKENS = 64
MOST_OF_FIRST_STEP = 500
"""Examples of a step that are looked at: more say the same, and a plan renders them first."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a job is computed."""

    micro_batch_tokens: int
    """Most tokens at once, but for single examples that are longer."""
    checkpointing: bool
    """Whether blocks are computed again in the backward pass."""
    largest_micro_batch_tokens: int
    """Most that would fit."""
    available_bytes: int
    fits: bool
    """Whether the longest example fits at all."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a choice depends on beside the machine's memory."""

    size: Size
    item_bytes: int
    on_gpu: bool
    longest_tokens: int
    """Of the longest example."""
    rendered_tokens: int
    """Of all files."""
    fitting_tokens: int
    """At once, where memory does not matter."""

    def bytes_at(self, n_tokens: int, *, is_recomputed: bool) -> int:
        """What a job takes that computes so many tokens at once."""
        found = memory_of(
            self.size,
            n_tokens=n_tokens,
            n_rows=n_tokens // 2,
            rendered_tokens=self.rendered_tokens,
            item_bytes=self.item_bytes,
            is_recomputed=is_recomputed,
            process_bytes=0 if self.on_gpu else None,
        )
        return found.total


def first_step(n: int, *, batch_size: int) -> list[int]:
    """Which of `n` examples a demand looks at. It does not depend on the task's seed, which a plan need not know."""
    return step_indices(n, batch_size=min(batch_size, MOST_OF_FIRST_STEP), seed=0, step=0)


def demand_of(
    first: Sequence[Row], *, longest_tokens: int, rendered_tokens: int, size: Size, machine: Machine
) -> Demand:
    """What a task demands whose `first_step` has these examples."""
    kept_share = size.trained_blocks / size.shape.n_blocks
    return Demand(
        size=size,
        item_bytes=machine.dtype.itemsize,
        on_gpu=machine.device.type == "cuda",
        longest_tokens=longest_tokens,
        rendered_tokens=rendered_tokens,
        fitting_tokens=fitting_micro_batch_tokens([part for row in first for part in row.parts], kept_share=kept_share),
    )


def choose(demand: Demand, runtime: Mapping[str, Any], *, budget_bytes: int) -> Choice:
    """Choose what fits; what was asked for is taken as it is.

    Args:
        demand: What the task demands.
        runtime: The task's `runtime` options.
        budget_bytes: What the whole process may take.
    """
    limit = int(SHARE_OF_AVAILABLE * budget_bytes)
    longest = max(LEAST_TOKENS, demand.longest_tokens)
    again = recomputes(runtime, needed_bytes=demand.bytes_at(longest, is_recomputed=False), available_bytes=limit)
    largest = _largest(demand, limit, is_recomputed=again)
    asked = runtime.get("micro_batch_tokens")
    chosen = asked or max(LEAST_TOKENS, min(demand.fitting_tokens, largest))
    return Choice(
        micro_batch_tokens=chosen,
        checkpointing=again,
        largest_micro_batch_tokens=largest,
        available_bytes=budget_bytes,
        fits=demand.bytes_at(longest, is_recomputed=again) <= limit,
        reason=_reason(demand, chosen, asked=asked, largest=largest, again=again),
    )


def budget_bytes(device: torch.device, *, is_job: bool) -> int:
    """What a job's process may take: what is free, and for the job itself, what it has taken already."""
    return available_bytes(device) + (_own_bytes(device) if is_job else 0)


def _own_bytes(device: torch.device) -> int:
    """What this process holds that it would not get twice: its files in memory count as free already."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def _largest(demand: Demand, limit: int, *, is_recomputed: bool) -> int:
    """The most tokens that fit, in steps; 0: not even the least."""
    low, high = 0, MOST_TOKENS // STEP_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        fits = demand.bytes_at(middle * STEP_TOKENS, is_recomputed=is_recomputed) <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * STEP_TOKENS


def _reason(demand: Demand, chosen: int, *, asked: int | None, largest: int, again: bool) -> str:
    parts = []
    if asked:
        parts.append(f"{asked:,} tokens at once were asked for")
    elif chosen < demand.fitting_tokens:
        parts.append(f"no more than {chosen:,} tokens at once fit into memory")
    else:
        parts.append(f"{chosen:,} tokens at once reach the full speed, and {largest:,} would fit")
    if again:
        parts.append("blocks are computed again in the backward pass to save memory")
    return "; ".join(parts)
