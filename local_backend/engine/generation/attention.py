"""Attention over the generation cache, called by transformers' own layers through its attention interface.

Shapes: B texts, T new tokens, H query heads, K key-value heads, G = H/K, S tokens attended to, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from local_backend.engine.generation.cache import Lane, Row

ATTENTION = "ftclient_serving"
"""Name under which transformers finds `attend`."""


class Step(Protocol):
    """One forward pass: knows whose keys and values are new, and what each query may see."""

    def attend(
        self, layer: int, query_BHTD: Tensor, key_BKTD: Tensor, value_BKTD: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """Store the new keys and values and return the attention's output, shaped BHTD."""


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - the step knows the lengths
    *,
    step: Step,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Do what transformers asks of an attention function; `step` comes through the model's keyword arguments."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    out_BHTD = step.attend(module.layer_idx, query, key, value, scale=scale, window=sliding_window)
    return out_BHTD.transpose(1, 2), None


def register() -> str:
    """Make `attend` known to transformers and return its name."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
    return ATTENTION


class PrefillStep:
    """New tokens of one text, after those that its row already holds."""

    def __init__(self, row: Row, n_new: int) -> None:
        self.row = row
        self.start, self.end = row.n_tokens, row.n_tokens + n_new
        self._masks: dict[int | None, Tensor] = {}

    def attend(
        self, layer: int, query_BHTD: Tensor, key_BKTD: Tensor, value_BKTD: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """See `Step.attend`; here B is 1."""
        lane, index = self.row.lane, self.row.index
        keys_KCD, values_KCD = lane.keys_LRKCD[layer, index], lane.values_LRKCD[layer, index]
        keys_KCD[:, self.start : self.end] = key_BKTD[0]
        values_KCD[:, self.start : self.end] = value_BKTD[0]
        if self.start == 0 and (window is None or window >= self.end):
            keys, values, mask = key_BKTD, value_BKTD, None
        else:
            keys, values = keys_KCD[None, :, : self.end], values_KCD[None, :, : self.end]
            mask = self._mask(window, query_BHTD.device)
        return functional.scaled_dot_product_attention(
            query_BHTD, keys, values, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
        )

    def _mask(self, window: int | None, device: torch.device) -> Tensor:
        if window not in self._masks:
            queries_T1 = torch.arange(self.start, self.end, device=device)[:, None]
            keys_S = torch.arange(self.end, device=device)
            visible_TS = keys_S <= queries_T1
            if window is not None:
                visible_TS &= keys_S > queries_T1 - window
            self._masks[window] = visible_TS
        return self._masks[window]


@dataclass(frozen=True, eq=False)
class _LaneStep:
    """The part of a decoding step that lies in one lane."""

    lane: Lane
    batch: slice
    """Which rows of the batch are this lane's rows, in the lane's order."""
    rows: Tensor
    positions: Tensor
    """Where each row's new token goes."""
    longest: int

    @classmethod
    def of(cls, lane: Lane, *, first: int, device: torch.device) -> _LaneStep:
        lengths = [row.n_tokens for row in lane.rows]
        return cls(
            lane=lane,
            batch=slice(first, first + len(lengths)),
            rows=torch.arange(len(lengths), device=device),
            positions=torch.tensor(lengths, device=device),
            longest=max(lengths) + 1,
        )

    def mask_R1GS(self, window: int | None) -> Tensor:
        keys_S = torch.arange(self.longest, device=self.positions.device)
        positions_R1 = self.positions[:, None]
        visible_RS = keys_S <= positions_R1
        if window is not None:
            visible_RS &= keys_S > positions_R1 - window
        return visible_RS[:, None, None, :]


class DecodeStep:
    """One new token for each text of several lanes; batch rows in the order of lanes and their rows."""

    def __init__(self, lanes: Sequence[Lane], device: torch.device) -> None:
        self._parts: list[_LaneStep] = []
        first = 0
        for lane in lanes:
            self._parts.append(_LaneStep.of(lane, first=first, device=device))
            first += len(lane.rows)
        self.positions_B1 = torch.cat([part.positions for part in self._parts])[:, None]
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def attend(
        self, layer: int, query_BHTD: Tensor, key_BKTD: Tensor, value_BKTD: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """See `Step.attend`; here T is 1."""
        batch, n_heads, _, size = query_BHTD.shape
        n_kv_heads = key_BKTD.shape[1]
        # The G heads that share keys become G queries of one head: no key is copied, one call serves the lane.
        query_BKGD = query_BHTD.reshape(batch, n_kv_heads, n_heads // n_kv_heads, size)
        outs = [
            self._attend_lane(number, layer, (query_BKGD, key_BKTD, value_BKTD), scale, window)
            for number in range(len(self._parts))
        ]
        out_BKGD = outs[0] if len(outs) == 1 else torch.cat(outs)
        return out_BKGD.reshape(batch, n_heads, 1, size)

    def _attend_lane(
        self, number: int, layer: int, new: tuple[Tensor, Tensor, Tensor], scale: float, window: int | None
    ) -> Tensor:
        part = self._parts[number]
        query, key, value = (tensor[part.batch] for tensor in new)
        keys_RKCD, values_RKCD = part.lane.keys_LRKCD[layer], part.lane.values_LRKCD[layer]
        keys_RKCD[part.rows, :, part.positions] = key[:, :, 0]
        values_RKCD[part.rows, :, part.positions] = value[:, :, 0]
        n_rows = len(part.lane.rows)
        mask = self._masks.get((number, window))
        if mask is None:
            mask = self._masks[number, window] = part.mask_R1GS(window)
        return functional.scaled_dot_product_attention(
            query,
            keys_RKCD[:n_rows, :, : part.longest],
            values_RKCD[:n_rows, :, : part.longest],
            attn_mask=mask,
            scale=scale,
        )
