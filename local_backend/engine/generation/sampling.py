"""Choosing the next token: greedy or by chance, the same for the same seed whatever else runs beside it.

That holds up to the last bits of the logits: a matrix product of 30 rows may round them differently than one of 5.

Shapes: B texts, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_TOP_P_CANDIDATES = 512
"""Sorting a whole vocabulary takes longer than a small model's step; the head of it is nearly always enough."""
_GREEDY_BELOW = 1e-6
"""Temperatures under which the most likely token is the only one; logits divided by much less are no numbers."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one text is sampled. Its random numbers are its own: a pure function of seed and choice."""

    temperature: float
    top_p: float
    top_logprobs: int | None
    numbers: random.Random = field(repr=False)


def numbers_for(seed: int | None, choice: int) -> random.Random:
    """Return the source of uniform numbers for one choice of a request (`seed` None: unpredictable)."""
    return random.Random() if seed is None else random.Random(f"{seed}:{choice}")  # noqa: S311 - text, not keys


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A token and, where asked for, its log-probability and the most likely alternatives, untempered."""

    token: int
    logprob: float | None = None
    top: Sequence[tuple[int, float]] = ()


def choose(logits_BV: Tensor, samplings: Sequence[Sampling]) -> list[Chosen]:
    """Choose one token for each row."""
    logits_BV = logits_BV.float()
    tokens = logits_BV.argmax(-1).tolist()
    by_chance = [row for row, sampling in enumerate(samplings) if sampling.temperature >= _GREEDY_BELOW]
    if by_chance:
        drawn = _draw(logits_BV[by_chance], [samplings[row] for row in by_chance])
        for row, token in zip(by_chance, drawn, strict=True):
            tokens[row] = token
    chosen = [Chosen(token=token) for token in tokens]
    asked = [row for row, sampling in enumerate(samplings) if sampling.top_logprobs is not None]
    if asked:
        for row, logprobs_V in zip(asked, logits_BV[asked].log_softmax(-1), strict=True):
            chosen[row] = _with_logprobs(tokens[row], logprobs_V, samplings[row].top_logprobs or 0)
    return chosen


def _with_logprobs(token: int, logprobs_V: Tensor, n_top: int) -> Chosen:
    values, ids = logprobs_V.topk(n_top)
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Chosen(token=token, logprob=float(logprobs_V[token]), top=top)


def _draw(logits_BV: Tensor, samplings: Sequence[Sampling]) -> list[int]:
    temperatures_B1 = torch.tensor([[s.temperature] for s in samplings], device=logits_BV.device)
    # In double precision sums over a large vocabulary stay exact enough for the last token to be reachable.
    probabilities_BV = (logits_BV / temperatures_B1).softmax(-1).double()
    uniforms = [s.numbers.random() for s in samplings]
    tokens: list[int] = []
    whole = [row for row, s in enumerate(samplings) if s.top_p >= 1]
    drawn = dict(zip(whole, _invert(probabilities_BV[whole], [uniforms[row] for row in whole]), strict=True))
    for row, sampling in enumerate(samplings):
        tokens.append(drawn[row] if row in drawn else _draw_nucleus(probabilities_BV[row], sampling, uniforms[row]))
    return tokens


def _invert(probabilities_BV: Tensor, uniforms: Sequence[float]) -> list[int]:
    """Return for each row the token at which the running sum of probabilities passes the uniform number."""
    if not uniforms:
        return []
    sums_BV = probabilities_BV.cumsum(-1)
    targets_B1 = torch.tensor(uniforms, dtype=sums_BV.dtype, device=sums_BV.device)[:, None] * sums_BV[:, -1:]
    found: list[int] = torch.searchsorted(sums_BV, targets_B1, right=True)[:, 0].tolist()
    return [min(token, probabilities_BV.shape[-1] - 1) for token in found]


def _draw_nucleus(probabilities_V: Tensor, sampling: Sampling, uniform: float) -> int:
    """Draw among the fewest most likely tokens whose probabilities reach `top_p`."""
    values, ids = probabilities_V.topk(min(_TOP_P_CANDIDATES, len(probabilities_V)))
    if float(values.sum()) < sampling.top_p:
        values, ids = probabilities_V.sort(descending=True)
    before = values.cumsum(0) - values
    kept = max(1, int((before < sampling.top_p).sum()))
    return int(ids[_invert(values[None, :kept], [uniform])[0]])
