"""BERT's encoder on texts laid side by side: no padding in any product, every text attends to itself alone.

Shapes: T tokens of all texts, D width, H heads, N texts of a group, L their padded length, M = sum of N * L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from local_backend.engine.projection import project

MODEL_TYPES = frozenset({"bert", "camembert", "roberta", "xlm-roberta"})
"""Architectures that this forward pass knows."""


@dataclass(frozen=True)
class Group:
    """Texts of similar length, attended to together."""

    n: int
    length: int
    mask_N11L: torch.Tensor | None
    """Which keys are real; None: all."""


@dataclass(frozen=True)
class Layout:
    """Texts side by side, in the order given."""

    ids_T: torch.Tensor
    positions_T: torch.Tensor
    """Of each token in its text, from 0."""
    texts_T: torch.Tensor
    """Which text each token belongs to."""
    lengths_B: torch.Tensor
    starts_B: torch.Tensor
    groups: tuple[Group, ...]
    spread_M: torch.Tensor
    """The token that stands at each place of the groups; padded by repeating a text's last token."""
    places_T: torch.Tensor
    """The place at which each token stands."""


def lay_out(texts: Sequence[Sequence[int]]) -> Layout:
    """Lay texts side by side and decide in which groups they attend."""
    lengths = [len(text) for text in texts]
    lengths_B = torch.tensor(lengths)
    starts_B = torch.cumsum(lengths_B, 0) - lengths_B
    groups, spreads = [], []
    places_T = torch.empty(sum(lengths), dtype=torch.long)
    n_places = 0
    for members in _similar(lengths):
        own_N = torch.tensor(members)
        length = max(lengths[i] for i in members)
        step_L = torch.arange(length)
        index_NL = starts_B[own_N, None] + torch.minimum(step_L[None, :], lengths_B[own_N, None] - 1)
        real_NL = step_L[None, :] < lengths_B[own_N, None]
        places_T[index_NL[real_NL]] = n_places + real_NL.flatten().nonzero()[:, 0]
        mask = None if bool(real_NL.all()) else real_NL[:, None, None, :]
        groups.append(Group(len(members), length, mask))
        spreads.append(index_NL.flatten())
        n_places += len(members) * length
    return Layout(
        ids_T=torch.tensor([token for text in texts for token in text]),
        positions_T=torch.cat([torch.arange(n) for n in lengths]),
        texts_T=torch.repeat_interleave(torch.arange(len(texts)), lengths_B),
        lengths_B=lengths_B,
        starts_B=starts_B,
        groups=tuple(groups),
        spread_M=torch.cat(spreads),
        places_T=places_T,
    )


def embed(model: Any, layout: Layout) -> torch.Tensor:
    """What enters the first block (T, D)."""
    table = model.embeddings
    offset = 0 if model.config.model_type == "bert" else model.config.pad_token_id + 1
    x_TD = (
        table.word_embeddings(layout.ids_T)
        + table.token_type_embeddings.weight[0]
        + table.position_embeddings(layout.positions_T + offset)
    )
    out: torch.Tensor = table.LayerNorm(x_TD)
    return out


def run_blocks(blocks: Sequence[Any], x_TD: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Pass states through some blocks (T, D)."""
    for block in blocks:
        x_TD = _block(block, x_TD, layout)
    return x_TD


def _block(block: Any, x_TD: torch.Tensor, layout: Layout) -> torch.Tensor:
    own = block.attention.self
    qkv_TE = project(x_TD, [own.query, own.key, own.value])
    mixed_TD = _attend(qkv_TE, layout, n_heads=own.num_attention_heads)
    out = block.attention.output
    x_TD = out.LayerNorm(project(mixed_TD, [out.dense]) + x_TD)
    wide_TF = block.intermediate.intermediate_act_fn(project(x_TD, [block.intermediate.dense]))
    y_TD: torch.Tensor = block.output.LayerNorm(project(wide_TF, [block.output.dense]) + x_TD)
    return y_TD


def _attend(qkv_TE: torch.Tensor, layout: Layout, *, n_heads: int) -> torch.Tensor:
    spread_ME = _spread(qkv_TE, layout)
    outs, start = [], 0
    for group in layout.groups:
        size = group.n * group.length
        qkv = spread_ME[start : start + size].view(group.n, group.length, 3, n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out_NHLK = scaled_dot_product_attention(q, k, v, attn_mask=group.mask_N11L)
        outs.append(out_NHLK.transpose(1, 2).reshape(size, -1))
        start += size
    return _collect(torch.cat(outs), layout)


def _spread(x_TE: torch.Tensor, layout: Layout) -> torch.Tensor:
    out: torch.Tensor = _Move.apply(x_TE, layout.spread_M, layout.places_T)  # type: ignore[no-untyped-call]
    return out


def _collect(x_ME: torch.Tensor, layout: Layout) -> torch.Tensor:
    out: torch.Tensor = _MoveBack.apply(x_ME, layout.places_T)  # type: ignore[no-untyped-call]
    return out


class _Move(torch.autograd.Function):
    """Rows to their places in the groups. Padding gets no gradient: it is masked as key and dropped as query."""

    @staticmethod
    def forward(ctx: Any, x_TE: torch.Tensor, spread_M: torch.Tensor, places_T: torch.Tensor) -> torch.Tensor:
        ctx.places_T = places_T
        return x_TE.index_select(0, spread_M)

    @staticmethod
    def backward(ctx: Any, dout_ME: torch.Tensor) -> tuple[Any, ...]:
        return dout_ME.index_select(0, ctx.places_T), None, None


class _MoveBack(torch.autograd.Function):
    """Rows from their places in the groups to their order in the layout."""

    @staticmethod
    def forward(ctx: Any, x_ME: torch.Tensor, places_T: torch.Tensor) -> torch.Tensor:
        ctx.places_T, ctx.n_places = places_T, len(x_ME)
        return x_ME.index_select(0, places_T)

    @staticmethod
    def backward(ctx: Any, dout_TE: torch.Tensor) -> tuple[Any, ...]:
        dx_ME = dout_TE.new_zeros(ctx.n_places, dout_TE.shape[1])
        return dx_ME.index_copy_(0, ctx.places_T, dout_TE), None


def _similar(lengths: Sequence[int]) -> list[list[int]]:
    """Cut texts, sorted by length, into groups whose padding is at most about a quarter."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if groups and lengths[i] <= 1.25 * lengths[groups[-1][0]] + 2:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def mean_by_text(x_TD: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The mean state of each text (B, D)."""
    sums_BD = x_TD.new_zeros(len(layout.lengths_B), x_TD.shape[1]).index_add(0, layout.texts_T, x_TD)
    return sums_BD / layout.lengths_B[:, None].to(x_TD.dtype)


def blocks_of(model: Any) -> nn.ModuleList:
    """The encoder's blocks, the lowest first."""
    found: nn.ModuleList = model.encoder.layer
    return found
