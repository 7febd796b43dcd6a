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
    _masks: dict[tuple[int | None, torch.device, torch.dtype], torch.Tensor] = field(default_factory=dict, repr=False)

    def mask(self, window: int | None, device: torch.device, dtype: torch.dtype = torch.bool) -> torch.Tensor:
        """Which token (row) sees which (column), T x T; made once for all layers.

        As booleans, or in another type as what is added to scores: 0 or -inf. Torch's kernels make that of booleans,
        and keep it for each layer anew.
        """
        kind = window, device, dtype
        if kind not in self._masks:
            mask_TT = _visible(self.pack, window=window)
            if dtype is not torch.bool:
                mask_TT = torch.zeros(mask_TT.shape, dtype=dtype).masked_fill_(~mask_TT, float("-inf"))
            self._masks[kind] = mask_TT.to(device)
        return self._masks[kind]


GROUPED_TOKENS = 128
"""Runs up to this length are computed in groups; a call of its own costs longer ones little."""


CAPPED_BYTES = 2 << 20
"""Size of the scores that capped attention has at one time: they stay near the processor, and T x T never exist."""
MASK_ROWS = 256


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
    if softcap is not None:
        mask_TT = plan.mask(window, q_THD.device)
        out_THD: torch.Tensor = _CappedAttention.apply(q_THD, k_TGD, v_TGD, mask_TT, scale, softcap)  # type: ignore[no-untyped-call]
        return out_THD
    n_repeats = q_THD.shape[1] // k_TGD.shape[1]
    mask_TT = plan.mask(window, q_THD.device, q_THD.dtype)
    # With a batch dimension, or torch takes the way that keeps all scores.
    q, k, v = (_heads_first(x) for x in (q_THD, *(x.repeat_interleave(n_repeats, dim=1) for x in (k_TGD, v_TGD))))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask_TT, scale=scale)
    return _heads_last(out)


def _visible(pack: Pack, *, window: int | None) -> torch.Tensor:
    n = pack.n_tokens
    mask_TT = torch.zeros(n, n, dtype=torch.bool)
    for run in pack.runs:
        length = run.end - run.start
        mask_TT[run.start : run.end, run.start : run.end] = torch.ones(length, length, dtype=torch.bool).tril()
        mask_TT[run.end : run.subtree_end, run.start : run.end] = True
    if window is not None:
        for start in range(0, n, MASK_ROWS):  # distances of all pairs would take eight times the mask
            distance_ST = pack.positions_T[start : start + MASK_ROWS, None] - pack.positions_T[None, :]
            mask_TT[start : start + MASK_ROWS] &= distance_ST < window
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


class _CappedAttention(torch.autograd.Function):
    """Attention with scores squeezed to +-softcap, some query rows at a time.

    No kernel knows such scores. What is kept is the output and the log-sum-exps; scores are computed again in the
    backward pass. Query heads of one key head stand below each other (G, heads * rows), so keys are never repeated.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_THD: torch.Tensor,
        k_TGD: torch.Tensor,
        v_TGD: torch.Tensor,
        mask_TT: torch.Tensor,
        scale: float,
        softcap: float,
    ) -> torch.Tensor:
        out_THD = torch.empty_like(q_THD, memory_format=torch.contiguous_format)
        lse_TH = torch.empty(q_THD.shape[:2], dtype=_wide(q_THD.dtype), device=q_THD.device)
        k_GTD, v_GTD = k_TGD.transpose(0, 1).contiguous(), v_TGD.transpose(0, 1).contiguous()
        for rows in _row_slices(q_THD):
            keys = slice(0, rows.stop)  # what a token sees stands before it
            scores_GRT = _tanh_scores(q_THD[rows], k_GTD[:, keys], scale / softcap).mul_(softcap)
            _hide(scores_GRT, mask_TT[rows, keys])
            lse_GR = scores_GRT.logsumexp(-1)
            weights_GRT = scores_GRT.sub_(lse_GR.unsqueeze(-1)).exp_().to(v_GTD.dtype)
            out_THD[rows] = _rows_first(weights_GRT @ v_GTD[:, keys], rows)
            lse_TH[rows] = _rows_first(lse_GR.unsqueeze(-1), rows)[..., 0]
        ctx.save_for_backward(q_THD, k_TGD, v_TGD, mask_TT, out_THD, lse_TH)
        ctx.scale, ctx.softcap = scale, softcap
        return out_THD

    @staticmethod
    def backward(ctx: Any, dout_THD: torch.Tensor) -> tuple[Any, ...]:
        q_THD, k_TGD, v_TGD, mask_TT, out_THD, lse_TH = ctx.saved_tensors
        k_GTD, v_GTD = k_TGD.transpose(0, 1).contiguous(), v_TGD.transpose(0, 1).contiguous()
        n_groups = len(k_GTD)
        wide = _wide(q_THD.dtype)
        dq_THD = torch.empty_like(q_THD, memory_format=torch.contiguous_format)
        dk_GTD, dv_GTD = torch.zeros_like(k_GTD, dtype=wide), torch.zeros_like(v_GTD, dtype=wide)
        inner_TH1 = (dout_THD * out_THD).sum(-1, keepdim=True, dtype=wide)
        for rows in _row_slices(q_THD):
            keys = slice(0, rows.stop)
            q_GRD, dout_GRD = _heads_below(q_THD[rows], n_groups), _heads_below(dout_THD[rows], n_groups)
            tanh_GRT = _tanh_scores(q_THD[rows], k_GTD[:, keys], ctx.scale / ctx.softcap)
            weights_GRT = tanh_GRT * ctx.softcap
            _hide(weights_GRT, mask_TT[rows, keys])
            weights_GRT.sub_(_heads_below(lse_TH[rows].unsqueeze(-1), n_groups)).exp_()
            dv_GTD[:, keys] += weights_GRT.to(q_THD.dtype).transpose(1, 2) @ dout_GRD
            dscores_GRT = (dout_GRD @ v_GTD[:, keys].transpose(1, 2)).to(wide)
            dscores_GRT.sub_(_heads_below(inner_TH1[rows], n_groups)).mul_(weights_GRT)
            dscores_GRT.mul_(tanh_GRT.square_().neg_().add_(1.0)).mul_(ctx.scale)
            narrow_GRT = dscores_GRT.to(q_THD.dtype)
            dq_THD[rows] = _rows_first(narrow_GRT @ k_GTD[:, keys], rows)
            dk_GTD[:, keys] += narrow_GRT.transpose(1, 2) @ q_GRD
        dk_TGD, dv_TGD = (x.transpose(0, 1).to(q_THD.dtype) for x in (dk_GTD, dv_GTD))
        return dq_THD, dk_TGD, dv_TGD, None, None, None


def _row_slices(q_THD: torch.Tensor) -> list[slice]:
    n_tokens, n_heads = q_THD.shape[:2]
    step = max(16, CAPPED_BYTES // (_wide(q_THD.dtype).itemsize * n_heads * n_tokens))
    return [slice(start, min(start + step, n_tokens)) for start in range(0, n_tokens, step)]


def _heads_below(x_SHD: torch.Tensor, n_groups: int) -> torch.Tensor:
    """The heads of each group below each other: G, heads * S, D."""
    n_rows, _, size = x_SHD.shape
    return x_SHD.reshape(n_rows, n_groups, -1, size).permute(1, 2, 0, 3).flatten(1, 2)


def _rows_first(x_GRD: torch.Tensor, rows: slice) -> torch.Tensor:
    """Undo `_heads_below`: S, H, D."""
    n_groups, _, size = x_GRD.shape
    return x_GRD.view(n_groups, -1, rows.stop - rows.start, size).permute(2, 0, 1, 3).flatten(1, 2)


def _tanh_scores(q_SHD: torch.Tensor, k_GTD: torch.Tensor, factor: float) -> torch.Tensor:
    """tanh(factor * q k) of some rows, in full precision (G, heads * S, T)."""
    raw_GRT = _heads_below(q_SHD, len(k_GTD)) @ k_GTD.transpose(1, 2)
    return raw_GRT.to(_wide(q_SHD.dtype)).mul_(factor).tanh_()


def _hide(scores_GRT: torch.Tensor, mask_ST: torch.Tensor) -> None:
    """Set what a row does not see to -inf."""
    scores_GRT.view(len(scores_GRT), -1, *mask_ST.shape).masked_fill_(~mask_ST, float("-inf"))
