"""Packing: the sequences of a step laid out as one, with every shared prefix computed once.

The sequences form a tree whose nodes are runs of tokens. Laid out depth first, the descendants of a node follow it
without a gap, so attention needs one rule: a token sees the earlier tokens of its own run and all of its ancestors'.

Shapes: T tokens of a pack, R distinct (position, target) rows, K uses of a row by a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from local_backend.engine.template import Rendered

MIN_SHARED_TOKENS = 8
"""A prefix is computed once only if that saves this many tokens; below, the extra attention call costs more."""

MICRO_BATCH_TOKENS, MOST_MICRO_BATCH_TOKENS = 544, 2048
"""Tokens computed at once: matrix products reach their full rate from some 512 on; more only takes memory."""
SHARED_TIMES = 2.5
"""How often a shared prefix is added to that: each batch computes it anew, and it should be a small part of one."""
MOST_TIMES = 4
"""Times as many where the memory is not needed. A user who cancels waits for a batch to end, so not any number."""


@dataclass(frozen=True)
class Run:
    """A node of the tree: the tokens `start` to `end` of the pack. Its descendants fill `end` to `subtree_end`."""

    start: int
    end: int
    subtree_end: int
    parent: int | None
    """Index of the parent in the pack's runs."""


@dataclass(frozen=True)
class Pack:
    """What one forward pass computes."""

    ids_T: torch.Tensor
    positions_T: torch.Tensor
    runs: tuple[Run, ...]
    row_positions_R: torch.Tensor
    """Where in the pack the hidden state is that predicts a row's target."""
    row_targets_R: torch.Tensor
    use_rows_K: torch.Tensor
    use_sequences_K: torch.Tensor
    """Index of the sequence (in the order given) that a use belongs to."""
    use_weights_K: torch.Tensor
    sequences: tuple[Rendered, ...]
    """What was laid out, in the order given."""
    places: Sequence[Sequence[int]]
    """For each sequence, where in the pack each of its tokens stands."""

    @property
    def n_tokens(self) -> int:
        """Tokens computed; shared ones count once."""
        return len(self.ids_T)

    @property
    def n_sequences(self) -> int:
        """How many sequences were laid out."""
        return len(self.sequences)

    def row_weights(self) -> torch.Tensor:
        """The summed weight of each row over its uses, fp64."""
        weights_R = torch.zeros(len(self.row_targets_R), dtype=torch.float64)
        return weights_R.index_add_(0, self.use_rows_K, self.use_weights_K)


def pack(sequences: Sequence[Rendered], *, shares_prefixes: bool = True) -> Pack:
    """Lay out sequences as one pack."""
    builder = _Builder(sequences)
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].ids)
    if shares_prefixes:
        builder.add_group(order, start=0, agreed=0, parent=None)
    else:
        for i in order:
            builder.add_leaf(i, start=0, parent=None)
    return builder.finish()


def micro_batches(groups: Sequence[Sequence[Rendered]], *, max_tokens: int) -> Iterator[list[int]]:
    """Split a step into batches of at most about `max_tokens` computed tokens; neighbours share the most.

    What stands in one group (a preference pair, say) stays together, and a batch holds at least one group. The split
    depends on nothing but its arguments.
    """
    order = sorted(range(len(groups)), key=lambda i: groups[i][0].ids)
    batch: list[int] = []
    n_tokens = 0
    for i in order:
        n_own = own_tokens(groups[i])
        shared = shared_prefix(groups[batch[-1]][0].ids, groups[i][0].ids) if batch else 0
        if batch and n_tokens + n_own - shared > max_tokens:
            yield batch
            batch, n_tokens, shared = [], 0, 0
        batch.append(i)
        n_tokens += n_own - shared
    if batch:
        yield batch


def fitting_micro_batch_tokens(sequences: Sequence[Rendered], *, kept_share: float = 1.0) -> int:
    """How many tokens to compute at once where sequences like these are trained.

    Each batch computes its shared prefix anew, so long ones want larger batches; and batches hold whole sequences, so
    the last one's room is added. `kept_share` is the share of blocks that keep something for the backward pass: where
    few do, larger batches take no more memory.
    """
    ordered = sorted(sequence.ids for sequence in sequences)
    shared = sorted(shared_prefix(one, other) for one, other in pairwise(ordered))
    typical = shared[len(shared) // 2] if shared else 0
    own = sorted(len(ids) for ids in ordered)[len(ordered) // 2] - typical if ordered else 0
    fitting = min(MOST_MICRO_BATCH_TOKENS, MICRO_BATCH_TOKENS + own + int(SHARED_TIMES * typical))
    return fitting * int(min(MOST_TIMES, 1 / max(kept_share, 1 / MOST_TIMES)))


def own_tokens(group: Sequence[Rendered]) -> int:
    """Tokens of a group that shares what its sequences have in common with the first."""
    first = group[0].ids
    return len(first) + sum(len(one.ids) - shared_prefix(first, one.ids) for one in group[1:])


def shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    low, high = 0, limit  # a[:low] == b[:low], and a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low


class _Builder:
    """Grows a pack, depth first."""

    def __init__(self, sequences: Sequence[Rendered]) -> None:
        self.sequences = sequences
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.runs: list[Run] = []
        self.rows: dict[tuple[int, int], int] = {}
        self.uses: list[tuple[int, int, float]] = []
        self.places: list[list[int]] = [[] for _ in sequences]
        """For each sequence, where in the pack each of its tokens stands."""

    def add_group(self, order: Sequence[int], *, start: int, agreed: int, parent: int | None) -> None:
        """Add sorted sequences that agree on `agreed` tokens, of which the first `start` are laid out already."""
        for part in self._split(order, agreed):
            n_shared = shared_prefix(self.sequences[part[0]].ids, self.sequences[part[-1]].ids)
            if len(part) == 1 or n_shared == agreed:
                for i in part:
                    self.add_leaf(i, start=start, parent=parent)
            elif (n_shared - start) * (len(part) - 1) < MIN_SHARED_TOKENS:
                self.add_group(part, start=start, agreed=n_shared, parent=parent)
            else:
                run = self._add_run(part, start, n_shared, parent)
                self.add_group(part, start=n_shared, agreed=n_shared, parent=run)
                self.runs[run] = replace(self.runs[run], subtree_end=len(self.ids))

    def add_leaf(self, i: int, *, start: int, parent: int | None) -> None:
        """Add the rest of one sequence as a run of its own."""
        if start < len(self.sequences[i].ids):
            self._add_run([i], start, len(self.sequences[i].ids), parent)

    def _split(self, order: Sequence[int], at: int) -> Iterator[list[int]]:
        """Cut sorted sequences where their token number `at` changes."""
        part: list[int] = []
        for i in order:
            if part and self.sequences[part[0]].ids[at : at + 1] != self.sequences[i].ids[at : at + 1]:
                yield part
                part = []
            part.append(i)
        yield part

    def _add_run(self, part: Sequence[int], start: int, end: int, parent: int | None) -> int:
        place = len(self.ids)
        self.ids += self.sequences[part[0]].ids[start:end]
        self.positions += range(start, end)
        for i in part:
            self.places[i] += range(place, place + end - start)
        self.runs.append(Run(place, len(self.ids), len(self.ids), parent))
        return len(self.runs) - 1

    def finish(self) -> Pack:
        for i, sequence in enumerate(self.sequences):
            self._add_targets(i, sequence)
        rows = list(self.rows)
        return Pack(
            ids_T=torch.tensor(self.ids, dtype=torch.long),
            positions_T=torch.tensor(self.positions, dtype=torch.long),
            runs=tuple(self.runs),
            row_positions_R=torch.tensor([position for position, _ in rows], dtype=torch.long),
            row_targets_R=torch.tensor([target for _, target in rows], dtype=torch.long),
            use_rows_K=torch.tensor([row for row, _, _ in self.uses], dtype=torch.long),
            use_sequences_K=torch.tensor([i for _, i, _ in self.uses], dtype=torch.long),
            use_weights_K=torch.tensor([weight for _, _, weight in self.uses], dtype=torch.float64),
            sequences=tuple(self.sequences),
            places=self.places,
        )

    def _add_targets(self, i: int, sequence: Rendered) -> None:
        """The hidden state of a token predicts the next one; this is the only label shift there is."""
        places = self.places[i]
        for k in range(1, len(sequence.ids)):
            if sequence.weights[k] != 0.0:
                row = self.rows.setdefault((places[k - 1], sequence.ids[k]), len(self.rows))
                self.uses.append((row, i, sequence.weights[k]))
