"""What the lower blocks of an image model say of each image, computed once where they do not train.

Shapes: N images of a job, B of a step, T places of an image, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from local_backend.engine.classify.body import ImageBody, blocks_in_order
from local_backend.engine.classify.data import Row

_AGREEMENT = 1e-4
"""Largest difference from the whole forward pass, in shares of the largest feature."""
_PROBED = 4
_AT_ONCE = 32


class LiveImages:
    """Every step computes the whole model; what the processor made of the images is kept, as far as there is room."""

    n_bytes = 0
    """Of states that are kept instead of computed: none."""

    def __init__(self, body: ImageBody, *, most_bytes: int) -> None:
        self._body = body
        self._left_bytes = most_bytes
        self._known: dict[int, torch.Tensor] = {}

    def pixels(self, rows: Sequence[Row]) -> torch.Tensor:
        """What the processor makes of the rows' images (B, C, H, W); do not change it."""
        new = [row for row in rows if row.place not in self._known]
        pixels_BCHW = self._body.pixels([row.input for row in new]) if new else ()
        made = {row.place: pixels_CHW for row, pixels_CHW in zip(new, pixels_BCHW, strict=True)}
        for place, pixels_CHW in made.items():
            if pixels_CHW.nbytes <= self._left_bytes:
                self._left_bytes -= pixels_CHW.nbytes
                self._known[place] = pixels_CHW.clone()
        return torch.stack([made[row.place] if row.place in made else self._known[row.place] for row in rows])

    def __call__(self, rows: Sequence[Row]) -> torch.Tensor:
        """Features of some rows (B, W)."""
        return self._body.pixel_features(self.pixels(rows))


class KeptImageStates:
    """The states that enter the first trained block are kept; the blocks below it pass them on."""

    def __init__(self, body: ImageBody, rows: Sequence[Row], *, n_frozen: int, between: Callable[[], None]) -> None:
        self._body = body
        self._n_frozen = n_frozen
        self._places = {row.place: i for i, row in enumerate(rows)}
        parts = []
        for start in range(0, len(rows), _AT_ONCE):
            between()
            pixels_BCHW = body.pixels([row.input for row in rows[start : start + _AT_ONCE]])
            parts.append(_states(body, pixels_BCHW, n_frozen))
        self._states_NTD = torch.cat(parts)
        self._blank_CHW = torch.zeros_like(pixels_BCHW[0])

    @property
    def n_bytes(self) -> int:
        """What they take."""
        return self._states_NTD.nbytes

    def __call__(self, rows: Sequence[Row]) -> torch.Tensor:
        """Features of some rows (B, W)."""
        states_BTD = self._states_NTD[[self._places[row.place] for row in rows]]
        blank_BCHW = self._blank_CHW.expand(len(rows), *self._blank_CHW.shape)
        with _replayed(self._body.model, states_BTD, self._n_frozen):
            return self._body.pixel_features(blank_BCHW)


def keep_image_states(
    body: ImageBody, rows: Sequence[Row], *, most_bytes: int, between: Callable[[], None]
) -> KeptImageStates | None:
    """Keep the states, where some blocks at the bottom do not train, all blocks are alike, and there is room."""
    n_frozen = _frozen_blocks(body.model)
    if n_frozen == 0:
        return None
    probed = rows[:_PROBED]
    try:
        probe = KeptImageStates(body, probed, n_frozen=n_frozen, between=between)
        if probe.n_bytes * len(rows) > most_bytes * len(probed):
            return None
        with torch.no_grad():
            whole_BW, replayed_BW = body.features([row.input for row in probed]), probe(probed)
    except (
        AttributeError,
        IndexError,
        TypeError,
        ValueError,
        RuntimeError,
    ):  # blocks of this kind are called otherwise
        return None
    if float((whole_BW - replayed_BW).abs().max()) > _AGREEMENT * float(whole_BW.abs().max()):
        return None
    return KeptImageStates(body, rows, n_frozen=n_frozen, between=between)


class _ReachedError(Exception):
    """The first trained block has been reached: what lies above is not computed."""


class _Pass(nn.Module):
    """Stands for a block whose states are known."""

    def forward(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return x


def _frozen_blocks(model: nn.Module) -> int:
    """How many blocks at the bottom neither train nor stand on what trains; 0 where blocks are of several lists."""
    blocks = blocks_in_order(model)
    if len({name.rpartition(".")[0] for name, _ in blocks}) != 1:
        return 0
    trains = [any(parameter.requires_grad for parameter in block.parameters()) for _, block in blocks]
    below = [name for name, parameter in model.named_parameters() if parameter.requires_grad and "embeddings." in name]
    if below or True not in trains:
        return 0
    return trains.index(True)


def _states(body: ImageBody, pixels_BCHW: torch.Tensor, n_frozen: int) -> torch.Tensor:
    """The states that enter block `n_frozen` (B, T, D)."""
    found: list[torch.Tensor] = []

    def stop(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        found.append(arguments[0].detach())
        raise _ReachedError

    block = blocks_in_order(body.model)[n_frozen][1]
    handle = block.register_forward_pre_hook(stop)
    try:
        with torch.no_grad():
            body.pixel_features(pixels_BCHW)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    return found[0]


@contextmanager
def _replayed(model: nn.Module, states_BTD: torch.Tensor, n_frozen: int) -> Iterator[None]:
    """Within the block, the lower blocks do nothing and the first trained one is given the states."""
    blocks = blocks_in_order(model)
    parent = model.get_submodule(blocks[0][0].rpartition(".")[0])
    handle = blocks[n_frozen][1].register_forward_pre_hook(lambda _, arguments: (states_BTD, *arguments[1:]))
    for i in range(n_frozen):
        parent[i] = _Pass()  # type: ignore[operator]  # blocks stand in a list
    try:
        yield
    finally:
        handle.remove()
        for i, (_, block) in enumerate(blocks[:n_frozen]):
            parent[i] = block  # type: ignore[operator]
