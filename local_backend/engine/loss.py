"""The output layer and the loss, at trained positions only and a few rows at a time.

Logits of a whole pack never exist. The gradient is computed beside the loss, so nothing is computed twice.

Shapes: R rows (position, target), C rows of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from local_backend.engine.matmul import times_transposed

CHUNK_BYTES = 32 << 20
"""Size of the logits that exist at one time."""


@dataclass(frozen=True)
class Head:
    """The output layer."""

    weight_VD: torch.Tensor
    softcap: float | None = None
    """Gemma 2 squeezes its logits to this range."""


@dataclass(frozen=True)
class Rows:
    """What the output layer said, a number a row."""

    logprobs_R: torch.Tensor
    """Natural-log probability of the target."""
    hits_R: torch.Tensor
    """Whether the target was the likeliest token."""


def score(hidden_RD: torch.Tensor, targets_R: torch.Tensor, *, head: Head) -> Rows:
    """Score targets without gradients."""
    with torch.no_grad():
        found = [
            _chunk(hidden_RD[part], targets_R[part], head)[1:]
            for part in _parts(len(targets_R), head.weight_VD.shape[0])
        ]
    if not found:
        return Rows(hidden_RD.new_zeros(0), torch.zeros(0, dtype=torch.bool))
    return Rows(torch.cat([logprobs for logprobs, _ in found]), torch.cat([hits for _, hits in found]))


def weighted_nll(
    hidden_RD: torch.Tensor, targets_R: torch.Tensor, weights_R: torch.Tensor, *, head: Head
) -> tuple[torch.Tensor, Rows]:
    """Return sum(weight * -logprob), differentiable, and the rows' scores."""
    loss, logprobs_R, hits_R = _WeightedNLL.apply(  # type: ignore[no-untyped-call]
        hidden_RD,
        head.weight_VD,
        targets_R,
        weights_R.to(torch.promote_types(hidden_RD.dtype, torch.float32)),
        head.softcap,
    )
    return loss, Rows(logprobs_R, hits_R)


def _parts(n_rows: int, n_vocabulary: int) -> list[slice]:
    n = max(16, CHUNK_BYTES // (4 * n_vocabulary))
    return [slice(start, min(start + n, n_rows)) for start in range(0, n_rows, n)]


def _chunk(
    hidden_CD: torch.Tensor, targets_C: torch.Tensor, head: Head
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities of all tokens (C, V), those of the targets, and whether the target came first."""
    logits_CV = times_transposed(hidden_CD, head.weight_VD)
    if head.softcap is not None:
        logits_CV = logits_CV.div_(head.softcap).tanh_().mul_(head.softcap)
    if logits_CV.dtype in {torch.bfloat16, torch.float16}:
        logits_CV = logits_CV.float()
    hits_C = logits_CV.argmax(-1) == targets_C
    logprobs_CV = torch.log_softmax(logits_CV, dim=-1)
    return logprobs_CV, logprobs_CV.gather(1, targets_C[:, None])[:, 0], hits_C


class _WeightedNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_RD: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_R: torch.Tensor,
        weights_R: torch.Tensor,
        softcap: float | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        head = Head(weight_VD, softcap)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        dhidden_RD = torch.empty_like(hidden_RD) if needs_hidden else None
        dweight_DV = torch.zeros_like(weight_VD.t()) if needs_weight else None
        logprobs, hits = [], []
        for part in _parts(len(targets_R), len(weight_VD)):
            logprobs_CV, logprobs_C, hits_C = _chunk(hidden_RD[part], targets_R[part], head)
            dlogits_CV = _dlogits(logprobs_CV, targets_R[part], softcap, hidden_RD[part], weight_VD)
            weights_C1 = weights_R[part, None]
            if dhidden_RD is not None:
                dhidden_RD[part] = times_transposed(dlogits_CV, weight_VD.t()).mul_(weights_C1)
            if dweight_DV is not None:
                dweight_DV += times_transposed((hidden_RD[part] * weights_C1).t(), dlogits_CV.t())
            logprobs.append(logprobs_C)
            hits.append(hits_C)
        ctx.save_for_backward(dhidden_RD, dweight_DV)
        all_logprobs_R, all_hits_R = torch.cat(logprobs), torch.cat(hits)
        ctx.mark_non_differentiable(all_logprobs_R, all_hits_R)
        return -(all_logprobs_R.double() * weights_R.double()).sum(), all_logprobs_R, all_hits_R

    @staticmethod
    def backward(ctx: Any, dloss: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        dhidden_RD, dweight_DV = ctx.saved_tensors
        dhidden_RD = None if dhidden_RD is None else dhidden_RD.mul(dloss)
        dweight_VD = None if dweight_DV is None else dweight_DV.mul(dloss).t()
        return dhidden_RD, dweight_VD, None, None, None


def _dlogits(
    logprobs_CV: torch.Tensor,
    targets_C: torch.Tensor,
    softcap: float | None,
    hidden_CD: torch.Tensor,
    weight_VD: torch.Tensor,
) -> torch.Tensor:
    """Gradient of the summed negative log-probabilities by the logits; overwrites `logprobs_CV`."""
    dlogits_CV = logprobs_CV.exp_()
    dlogits_CV[torch.arange(len(targets_C)), targets_C] -= 1.0
    if softcap is not None:
        tanh_CV = times_transposed(hidden_CD, weight_VD).div_(softcap).tanh_()
        dlogits_CV *= 1.0 - tanh_CV.square_()
    return dlogits_CV.to(hidden_CD.dtype)
