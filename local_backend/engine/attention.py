"""Attention over a tree of runs: every token sees the earlier tokens of its run and all of its ancestors'.

Unrelated runs cost nothing: attention is computed a piece at a time (a run with itself, the descendants of a run with
that run), and pieces that share queries are merged by their log-sum-exps. The gradient needs no second merge: each
piece's backward pass takes the merged output and the merged log-sum-exp, since softmax probabilities are
exp(score - log-sum-exp) whichever piece a score stands in.

Shapes: T tokens of the pack, H query heads, G key/value heads, D head size, N runs in a group, L their padded length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from local_backend.engine.packing import Pack, Run

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - returns the log-sum-exp
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001


@dataclass(frozen=True)
class Slice:
    """Queries `start` to `end` with keys `key_start` to `key_end`."""

    start: int
    end: int
    key_start: int
    key_end: int
    is_causal: bool


@dataclass(frozen=True)
class Group:
    """Short runs of similar length, computed together; padding stands at the end, where causality hides it."""

    index_NL: torch.Tensor
    """Where in the pack each token stands; padded by repeating the run's last token."""
    flat_M: torch.Tensor
    """Which of the N*L places are real."""
    places_M: torch.Tensor
    """Where in the pack those belong."""


@dataclass(frozen=True)
class Plan:
    """The pieces that attention over a pack is computed in."""

    slices: tuple[Slice, ...]
    groups: tuple[Group, ...]
    parents: tuple[Slice, ...]
    pack: Pack
    longest: int
    """Tokens of the longest sequence."""
    _masks: dict[tuple[int | None, torch.device], torch.Tensor] = field(default_factory=dict, repr=False)

    def mask(self, window: int | None, device: torch.device) -> torch.Tensor:
        """Which token (row) sees which (column), as T x T booleans; made once for all layers."""
        kind = window, device
        if kind not in self._masks:
            self._masks[kind] = _visible(self.pack, window=window).to(device)
        return self._masks[kind]


GROUPED_TOKENS = 128
"""Runs up to this length are computed in groups; a call of its own costs longer ones little."""


def plan_attention(pack: Pack) -> Plan:
    """Decide the pieces for a pack; every layer uses the same."""
    own = [run for run in pack.runs if run.end - run.start > GROUPED_TOKENS]
    short = sorted((run for run in pack.runs if run.end - run.start <= GROUPED_TOKENS), key=_length)
    return Plan(
        slices=tuple(Slice(run.start, run.end, run.start, run.end, is_causal=True) for run in own),
        groups=tuple(_group(runs) for runs in _similar(short)),
        parents=tuple(
            Slice(run.end, run.subtree_end, run.start, run.end, is_causal=False)
            for run in pack.runs
            if run.subtree_end > run.end
        ),
        pack=pack,
        longest=int(pack.positions_T.max()) + 1,
    )


def attend(q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, *, plan: Plan, scale: float) -> torch.Tensor:
    """Full attention over the pack's tree; returns T, H, D."""
    if q_THD.device.type == "cpu":
        return _TreeAttention.apply(q_THD, k_TGD, v_TGD, plan, scale)  # type: ignore[no-any-return, no-untyped-call]
    return attend_densely(q_THD, k_TGD, v_TGD, plan=plan, scale=scale)


def attend_densely(
    q_THD: torch.Tensor,
    k_TGD: torch.Tensor,
    v_TGD: torch.Tensor,
    *,
    plan: Plan,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """The same with a mask of T x T: for sliding windows, capped scores and devices without a faster way."""
    mask_TT = plan.mask(window, q_THD.device)
    n_repeats = q_THD.shape[1] // k_TGD.shape[1]
    q_HTD = q_THD.transpose(0, 1)
    k_HTD, v_HTD = (x.transpose(0, 1).repeat_interleave(n_repeats, dim=0) for x in (k_TGD, v_TGD))
    if softcap is None:
        out = torch.nn.functional.scaled_dot_product_attention(q_HTD, k_HTD, v_HTD, attn_mask=mask_TT, scale=scale)
        return out.transpose(0, 1)
    scores_HTT = torch.tanh(q_HTD @ k_HTD.transpose(1, 2) * scale / softcap) * softcap
    weights_HTT = torch.softmax(scores_HTT.masked_fill(~mask_TT, float("-inf")), dim=-1)
    return (weights_HTT @ v_HTD).transpose(0, 1)


def _visible(pack: Pack, *, window: int | None) -> torch.Tensor:
    n = pack.n_tokens
    mask_TT = torch.zeros(n, n, dtype=torch.bool)
    for run in pack.runs:
        length = run.end - run.start
        mask_TT[run.start : run.end, run.start : run.end] = torch.ones(length, length, dtype=torch.bool).tril()
        mask_TT[run.end : run.subtree_end, run.start : run.end] = True
    if window is not None:
        distance_TT = pack.positions_T[:, None] - pack.positions_T[None, :]
        mask_TT &= distance_TT < window
    return mask_TT


def _length(run: Run) -> int:
    return run.end - run.start


def _similar(short: Sequence[Run]) -> list[list[Run]]:
    """Cut runs, sorted by length, into groups whose padding is at most about a third."""
    groups: list[list[Run]] = []
    for run in short:
        if groups and _length(run) <= 1.5 * _length(groups[-1][0]) + 4:
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _group(runs: Sequence[Run]) -> Group:
    longest = max(_length(run) for run in runs)
    step_L = torch.arange(longest)
    starts_N = torch.tensor([run.start for run in runs])
    lengths_N = torch.tensor([_length(run) for run in runs])
    index_NL = starts_N[:, None] + torch.minimum(step_L[None, :], lengths_N[:, None] - 1)
    flat_M = (step_L[None, :] < lengths_N[:, None]).flatten().nonzero()[:, 0]
    return Group(index_NL=index_NL, flat_M=flat_M, places_M=index_NL.flatten()[flat_M])


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Log-sum-exps stay fp32 at least."""
    return dtype if dtype is torch.float64 else torch.float32


def _heads_first(x_THD: torch.Tensor) -> torch.Tensor:
    """T, H, D (or N, L, H, D) as the kernel takes it: batch, H, T, D."""
    batched = x_THD if x_THD.dim() == 4 else x_THD.unsqueeze(0)  # noqa: PLR2004 - with a batch dimension
    return batched.transpose(1, 2)


def _heads_last(x: torch.Tensor) -> torch.Tensor:
    """Undo `_heads_first`, flattening the batch into T."""
    return x.transpose(1, 2).flatten(0, 1)


class _TreeAttention(torch.autograd.Function):
    """Forward and backward a piece at a time; log-sum-exps are kept as T, H."""

    @staticmethod
    def forward(
        ctx: Any, q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, plan: Plan, scale: float
    ) -> torch.Tensor:
        out_THD = torch.empty_like(q_THD, memory_format=torch.contiguous_format)
        lse_TH = torch.empty(q_THD.shape[:2], dtype=_wide(q_THD.dtype))
        for piece in plan.slices:
            out_THD[piece.start : piece.end], lse_TH[piece.start : piece.end] = _piece(
                q_THD, k_TGD, v_TGD, piece, scale
            )
        for group in plan.groups:
            q, k, v = (_heads_first(x[group.index_NL]) for x in (q_THD, k_TGD, v_TGD))
            out, lse = _forward(q, k, v, 0.0, True, scale=scale)  # noqa: FBT003 - positional in ATen
            out_THD[group.places_M] = _heads_last(out)[group.flat_M]
            lse_TH[group.places_M] = lse.transpose(1, 2).flatten(0, 1)[group.flat_M].to(lse_TH.dtype)
        for piece in plan.parents:
            out, lse = _piece(q_THD, k_TGD, v_TGD, piece, scale)
            _merge(out_THD[piece.start : piece.end], lse_TH[piece.start : piece.end], out, lse)
        ctx.save_for_backward(q_THD, k_TGD, v_TGD, out_THD, lse_TH)
        ctx.plan, ctx.scale = plan, scale
        return out_THD

    @staticmethod
    def backward(ctx: Any, dout_THD: torch.Tensor) -> tuple[Any, ...]:
        q_THD, k_TGD, v_TGD, out_THD, lse_TH = ctx.saved_tensors
        tensors = (dout_THD.contiguous(), q_THD, k_TGD, v_TGD, out_THD, lse_TH)
        grads = tuple(torch.zeros(x.shape, dtype=x.dtype) for x in (q_THD, k_TGD, v_TGD))
        for group in ctx.plan.groups:
            _group_backward(tensors, group, grads, ctx.scale)
        for piece in (*ctx.plan.slices, *ctx.plan.parents):
            _piece_backward(tensors, piece, grads, ctx.scale)
        return (*grads, None, None)


def _piece(
    q_THD: torch.Tensor, k_TGD: torch.Tensor, v_TGD: torch.Tensor, piece: Slice, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    q = _heads_first(q_THD[piece.start : piece.end])
    k, v = (_heads_first(x[piece.key_start : piece.key_end]) for x in (k_TGD, v_TGD))
    out, lse = _forward(q, k, v, 0.0, piece.is_causal, scale=scale)
    return _heads_last(out), lse[0].transpose(0, 1).to(_wide(q.dtype))


def _merge(out_THD: torch.Tensor, lse_TH: torch.Tensor, more_THD: torch.Tensor, more_TH: torch.Tensor) -> None:
    """Merge another piece into `out` and `lse`, in place."""
    total_TH = torch.logaddexp(lse_TH, more_TH)
    out_THD.mul_((lse_TH - total_TH).exp_().unsqueeze(-1).to(out_THD.dtype))
    out_THD.addcmul_(more_THD, (more_TH - total_TH).exp_().unsqueeze(-1).to(out_THD.dtype))
    lse_TH.copy_(total_TH)


def _piece_backward(
    tensors: tuple[torch.Tensor, ...], piece: Slice, grads: tuple[torch.Tensor, ...], scale: float
) -> None:
    dout_THD, q_THD, k_TGD, v_TGD, out_THD, lse_TH = tensors
    dout, q, out = (_heads_first(x[piece.start : piece.end]) for x in (dout_THD, q_THD, out_THD))
    k, v = (_heads_first(x[piece.key_start : piece.key_end]) for x in (k_TGD, v_TGD))
    lse = lse_TH[piece.start : piece.end].transpose(0, 1).unsqueeze(0)
    dq, dk, dv = _call_backward(dout, q, k, v, out, lse, is_causal=piece.is_causal, scale=scale)
    grads[0][piece.start : piece.end] += _heads_last(dq)
    grads[1][piece.key_start : piece.key_end] += _heads_last(dk)
    grads[2][piece.key_start : piece.key_end] += _heads_last(dv)


def _group_backward(
    tensors: tuple[torch.Tensor, ...], group: Group, grads: tuple[torch.Tensor, ...], scale: float
) -> None:
    dout_THD, q_THD, k_TGD, v_TGD, out_THD, lse_TH = tensors
    dout, q, k, v, out = (_heads_first(x[group.index_NL]) for x in (dout_THD, q_THD, k_TGD, v_TGD, out_THD))
    lse = lse_TH[group.index_NL].transpose(1, 2)
    padded = torch.ones(group.index_NL.numel(), dtype=torch.bool)
    padded[group.flat_M] = False
    dout = dout.masked_fill(padded.view(group.index_NL.shape)[:, None, :, None], 0.0)
    found = _call_backward(dout, q, k, v, out, lse, is_causal=True, scale=scale)
    for grad, part in zip(grads, found, strict=True):
        grad[group.places_M] += _heads_last(part)[group.flat_M]


def _call_backward(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    is_causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The kernel's backward pass; it wants as many key heads as query heads, so groups are summed here."""
    n_groups = k.shape[1]
    n_repeats = q.shape[1] // n_groups
    if n_repeats > 1:
        k, v = (x.repeat_interleave(n_repeats, dim=1) for x in (k, v))
    dq, dk, dv = _backward(dout, q, k, v, out, lse, 0.0, is_causal, scale=scale)
    if n_repeats > 1:
        dk, dv = (x.unflatten(1, (n_groups, n_repeats)).sum(2) for x in (dk, dv))
    return dq, dk, dv
