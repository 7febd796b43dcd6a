"""What a training takes of the machine's memory at its worst moment, term by term."""

from __future__ import annotations

from dataclasses import dataclass, fields

from local_backend.engine.forecast.size import Size

GRADIENT_BYTES = 4
MOMENTS_BYTES = 8
"""Of each trained weight: AdamW's two moments, fp32."""
ROW_BYTES_PER_TOKEN = 56
"""A rendered token as Python keeps it: an id (28 bytes) and its place and weight in two lists, and what the heap has
kept from rendering it (measured: 53 to 58)."""
PLACE_BYTES_PER_TOKEN = 10
"""Where in the kept states a token's own one is."""
TREE_BYTES_PER_ENTRY = 100
"""Of each different token, and of each trained position, while the places are sought (measured: 95 to 105)."""
RUNNER_BYTES = 40 << 20
"""The store and what else the runner's process has loaded."""
HEAP_SHARE = 0.22
"""What the C library's heap holds beyond what is in use, of all that comes and goes: packs differ in size, and so leave
gaps (measured: 5 to 35 %)."""
KERNELS_BYTES = 48 << 20
"""Products compiled for the sizes of the last packs (see the limits in the engine's `__init__`)."""
PROCESS_BYTES = 470 << 20
"""Python, torch, transformers, and the store, where it could not be measured."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Kept states of blocks that do not train."""

    n_bytes: int
    n_entries: int
    """Different tokens and trained positions of all files."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the worst moment of a training. On a GPU, `process` is not on it, and `heap` is its allocator's."""

    process: int
    """Python, torch, transformers: all that is there before any weights."""
    weights: int
    """Frozen and trained ones."""
    gradients: int
    moments: int
    """The optimizer's."""
    activations: int
    """What the largest pack keeps for the backward pass."""
    passing: int
    """Logits of a chunk, or the widest moment of the backward pass, or what came before both if that was more."""
    rows: int
    """The rendered files, and the places of kept states."""
    frozen_states: int
    """Kept states of blocks that do not train, as far as they are read from a file."""
    heap: int
    """What the allocator holds beyond that: gaps, and what the frozen blocks' one pass has left."""

    @property
    def total(self) -> int:
        """All of it."""
        return int(sum(getattr(self, field.name) for field in fields(self)))


def memory_of(
    size: Size,
    *,
    n_tokens: int,
    n_rows: int,
    rendered_tokens: int,
    item_bytes: int,
    is_recomputed: bool,
    process_bytes: int | None,
    kept: Kept | None = None,
) -> Memory:
    """Sum up.

    Args:
        size: The model and what trains.
        n_tokens: Of the largest pack.
        n_rows: Trained positions in it.
        rendered_tokens: Of all files.
        item_bytes: Size of a frozen weight and of what is computed.
        is_recomputed: Whether blocks are computed again in the backward pass.
        process_bytes: What the process takes without the model; None: not measured; 0: on a GPU.
        kept: What the frozen blocks' states take; None: none are kept.
    """
    shape = size.shape
    activations = item_bytes * shape.kept_with_ends(
        n_tokens, n_blocks=size.trained_blocks, n_rows=n_rows, is_recomputed=is_recomputed
    )
    state = (GRADIENT_BYTES + MOMENTS_BYTES) * size.trained_weights
    once = shape.passed_forward(n_tokens, item_bytes=item_bytes) if size.frozen_blocks else 0
    on_cpu = process_bytes != 0
    tree = TREE_BYTES_PER_ENTRY * kept.n_entries if kept and on_cpu else 0
    row_bytes = ROW_BYTES_PER_TOKEN + (PLACE_BYTES_PER_TOKEN if kept else 0)
    passing = max(
        shape.scored(n_rows, item_bytes=item_bytes),
        shape.passed_back(n_tokens, item_bytes=item_bytes) if size.trained_blocks else 0,
        max(once, tree) - activations - state,  # blocks are frozen before there is any of these
    )
    return Memory(
        process=(PROCESS_BYTES if process_bytes is None else process_bytes)
        + (KERNELS_BYTES + RUNNER_BYTES if on_cpu else 0),
        weights=item_bytes * size.frozen_weights + 4 * size.trained_weights,
        gradients=GRADIENT_BYTES * size.trained_weights,
        moments=MOMENTS_BYTES * size.trained_weights,
        activations=activations,
        passing=passing,
        rows=row_bytes * rendered_tokens if on_cpu else 0,
        frozen_states=kept.n_bytes if kept and on_cpu else 0,
        heap=int(HEAP_SHARE * (activations + passing + once)),
    )
