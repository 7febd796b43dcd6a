"""The output layer and the loss, at trained positions only, a few rows and a block of the vocabulary at a time.

Logits of a whole pack never exist. The gradient is computed beside the loss, so no product is computed twice. Blocks of
the vocabulary are small enough to stay in the processor's cache between the product that makes them, the softmax, and
the product that takes them back: that doubles the rate of all three.

Shapes: R rows (position, target), C rows of a chunk, D width, V vocabulary, B a block of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from local_backend.engine.matmul import times_transposed

CHUNK_BYTES = 64 << 20
"""Size of the probabilities that exist at one time."""
BLOCK_TOKENS = 4096
"""Tokens of a block; 256 rows of it take 4 MiB. Products of smaller ones are slower, larger ones leave the cache."""


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
    """Whether no token was likelier than the target."""


class _Block(NamedTuple):
    """What the output layer says of a chunk's rows and the tokens `start` to `end`."""

    start: int
    end: int
    shares_CB: torch.Tensor
    """Softmax over this block alone."""
    lse_C: torch.Tensor
    """Log-sum-exp of this block's logits."""
    slopes_CB: torch.Tensor | None
    """Slope of the softcap, where there is one."""


def score(hidden_RD: torch.Tensor, targets_R: torch.Tensor, *, head: Head) -> Rows:
    """Score targets without gradients."""
    with torch.no_grad():
        found = [
            _look(hidden_RD[part], targets_R[part], head, keeps=False)[0]
            for part in _parts(len(targets_R), len(head.weight_VD))
        ]
    return _joined(found, hidden_RD)


def nll_gradient(
    hidden_RD: torch.Tensor, targets_R: torch.Tensor, weights_R: torch.Tensor, *, head: Head
) -> tuple[torch.Tensor | None, Rows]:
    """Gradient of sum(weight * -logprob), and the rows' scores.

    Returns the gradient by the hidden states (R, D), None where they need none. That by the output layer's weights, if
    they train, is added to their `grad` in place: it is as large as they are, so copies of it would cost more than
    computing it.
    """
    weight_VD = head.weight_VD
    with torch.no_grad():
        wide = torch.promote_types(hidden_RD.dtype, torch.float32)  # bf16 would round at each block
        dhidden_RD = torch.zeros_like(hidden_RD, dtype=wide) if hidden_RD.requires_grad else None
        if weight_VD.requires_grad and weight_VD.grad is None:
            weight_VD.grad = torch.zeros_like(weight_VD)
        weights_R1 = weights_R.to(wide)[:, None]
        found = []
        for part in _parts(len(targets_R), len(weight_VD)):
            rows, blocks = _look(hidden_RD[part], targets_R[part], head, keeps=True)
            found.append(rows)
            into_CD = None if dhidden_RD is None else dhidden_RD[part]
            _take_back(blocks, hidden_RD[part], targets_R[part], weights_R1[part], weight_VD, into_CD)
    return None if dhidden_RD is None else dhidden_RD.to(hidden_RD.dtype), _joined(found, hidden_RD)


def _joined(found: list[Rows], hidden_RD: torch.Tensor) -> Rows:
    if not found:
        return Rows(hidden_RD.new_zeros(0), torch.zeros(0, dtype=torch.bool, device=hidden_RD.device))
    return Rows(torch.cat([rows.logprobs_R for rows in found]), torch.cat([rows.hits_R for rows in found]))


def _parts(n_rows: int, n_vocabulary: int) -> Iterator[slice]:
    """Equal chunks: a product of few rows is slow."""
    most = max(16, CHUNK_BYTES // (4 * n_vocabulary))
    n = -(-n_rows // max(1, -(-n_rows // most)))
    return (slice(start, min(start + n, n_rows)) for start in range(0, n_rows, max(1, n)))


def _look(hidden_CD: torch.Tensor, targets_C: torch.Tensor, head: Head, *, keeps: bool) -> tuple[Rows, list[_Block]]:
    """Score a chunk's targets; with `keeps`, all blocks are returned for the way back."""
    n_vocabulary = len(head.weight_VD)
    blocks, lses, tops, targets = [], [], [], []
    for start in range(0, n_vocabulary, BLOCK_TOKENS):
        end = min(start + BLOCK_TOKENS, n_vocabulary)
        logits_CB = _logits(hidden_CD, head.weight_VD[start:end], head.softcap)
        shares_CB = torch.softmax(logits_CB, dim=-1)
        tops.append(logits_CB.amax(-1))
        lses.append(tops[-1] - shares_CB.amax(-1).log_())
        targets.append(_target_logits(logits_CB, targets_C - start))
        if keeps:
            slopes_CB = None if head.softcap is None else 1.0 - logits_CB.div_(head.softcap).square_()
            blocks.append(_Block(start, end, shares_CB, lses[-1], slopes_CB))
    lse_C = torch.stack(lses).logsumexp(0)
    target_C = torch.stack(targets).amax(0)
    hits_C = target_C >= torch.stack(tops).amax(0)
    return Rows(target_C - lse_C, hits_C), [block._replace(lse_C=block.lse_C - lse_C) for block in blocks]


def _logits(hidden_CD: torch.Tensor, weight_BD: torch.Tensor, softcap: float | None) -> torch.Tensor:
    """Logits of a block, fp32 at least."""
    logits_CB = times_transposed(hidden_CD, weight_BD)
    if softcap is not None:
        logits_CB = logits_CB.div_(softcap).tanh_().mul_(softcap)
    return logits_CB.float() if logits_CB.dtype in {torch.bfloat16, torch.float16} else logits_CB


def _target_logits(logits_CB: torch.Tensor, places_C: torch.Tensor) -> torch.Tensor:
    """The targets' logits where they stand in this block, else -inf."""
    within_C = places_C.clamp(0, logits_CB.shape[1] - 1)
    return logits_CB.gather(1, within_C[:, None])[:, 0].masked_fill_(within_C != places_C, float("-inf"))


def _take_back(
    blocks: list[_Block],
    hidden_CD: torch.Tensor,
    targets_C: torch.Tensor,
    weights_C1: torch.Tensor,
    weight_VD: torch.Tensor,
    dhidden_CD: torch.Tensor | None,
) -> None:
    """Put a chunk's gradient into `dhidden_CD`, and add that of the output layer's weights to theirs."""
    weighted_CD = (hidden_CD * weights_C1).to(hidden_CD.dtype)
    for block in blocks:
        dlogits_CB = _dlogits(block, targets_C).to(hidden_CD.dtype)
        if dhidden_CD is not None:
            dhidden_CD += times_transposed(dlogits_CB, weight_VD[block.start : block.end].t())
        if weight_VD.requires_grad and weight_VD.grad is not None:
            weight_VD.grad[block.start : block.end] += times_transposed(dlogits_CB.t(), weighted_CD.t())
    if dhidden_CD is not None:
        dhidden_CD.mul_(weights_C1)


def _dlogits(block: _Block, targets_C: torch.Tensor) -> torch.Tensor:
    """Gradient of the summed negative log-probabilities by a block's logits; overwrites its shares."""
    dlogits_CB = block.shares_CB.mul_(block.lse_C.exp()[:, None])
    inside_C = ((targets_C >= block.start) & (targets_C < block.end)).nonzero()[:, 0]
    dlogits_CB[inside_C, targets_C[inside_C] - block.start] -= 1.0
    return dlogits_CB if block.slopes_CB is None else dlogits_CB.mul_(block.slopes_CB)
