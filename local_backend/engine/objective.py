"""What is minimised: the weighted likelihood of answers, or the preference of one answer over another (DPO).

Shapes: R rows of a pack, S its sequences (preferred and other alternate), N its pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file

from local_backend.engine.checkpoint import whole_folder
from local_backend.engine.dropout import without_dropout
from local_backend.engine.network import Network, Sums
from local_backend.engine.pace import Between
from local_backend.engine.packing import Pack
from local_backend.engine.rows import Row
from local_backend.engine.template import Rendered


class Measured(Protocol):
    """What a step or an evaluation measured."""

    @property
    def loss(self) -> float:
        """The mean that is minimised."""

    @property
    def accuracy(self) -> float:
        """Weighted share of trained tokens that the model would have chosen."""

    @property
    def extra(self) -> dict[str, float]:
        """Further numbers for the metrics."""


class Objective(Protocol):
    """Turns examples into gradients or numbers."""

    def train(self, rows: Sequence[Row], *, max_tokens: int, between: Between) -> Measured:
        """Add the gradient of the examples' mean loss."""

    def score(self, rows: Sequence[Row], *, max_tokens: int, between: Between) -> Measured:
        """The same numbers without gradients."""


class Supervised:
    """sum(w * nll) / sum(w) over the tokens of the step."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def train(self, rows: Sequence[Row], *, max_tokens: int, between: Between) -> Sums:
        """Add the gradient of the examples' mean loss."""
        return self._network.train_step(_sequences(rows), max_tokens=max_tokens, between=between)

    def score(self, rows: Sequence[Row], *, max_tokens: int, between: Between) -> Sums:
        """The same numbers without gradients."""
        return self._network.score(_sequences(rows), max_tokens=max_tokens, between=between)


@dataclass(frozen=True)
class PairSums:
    """Sums over preference pairs."""

    nll: float = 0.0
    preferred_reward: float = 0.0
    other_reward: float = 0.0
    wins: float = 0.0
    pairs: int = 0
    tokens: Sums = field(default_factory=Sums)

    def __add__(self, more: PairSums) -> PairSums:
        """Add the sums of another pack."""
        return PairSums(
            self.nll + more.nll,
            self.preferred_reward + more.preferred_reward,
            self.other_reward + more.other_reward,
            self.wins + more.wins,
            self.pairs + more.pairs,
            self.tokens + more.tokens,
        )

    @property
    def loss(self) -> float:
        """Mean of -log sigmoid(reward margin)."""
        return self.nll / self.pairs

    @property
    def accuracy(self) -> float:
        """Share of the preferred answers' tokens that the model would have chosen."""
        return self.tokens.accuracy

    @property
    def extra(self) -> dict[str, float]:
        """Mean rewards (beta times log-probability gained over the reference), margin, share of pairs ranked right."""
        return {
            "rewards_chosen": self.preferred_reward / self.pairs,
            "rewards_rejected": self.other_reward / self.pairs,
            "rewards_margin": (self.preferred_reward - self.other_reward) / self.pairs,
            "rewards_accuracy": self.wins / self.pairs,
        }


class Preference:
    """Direct preference optimisation (arXiv 2305.18290) against the model that the run started from."""

    def __init__(self, network: Network, *, beta: float) -> None:
        self._network = network
        self._beta = beta
        self._reference: dict[int, torch.Tensor] = {}

    def set_reference(self, rows: Sequence[Row], *, file: Path, max_tokens: int, between: Between) -> None:
        """Compute each answer's log-probability under the model as it stands, or read it from an earlier start."""
        if not (file / "reference.safetensors").is_file():
            logprobs_N2 = self._logprobs(rows, max_tokens=max_tokens, between=between)
            with whole_folder(file) as new:
                save_file({"logprobs": logprobs_N2}, new / "reference.safetensors")
        stored_N2 = load_file(file / "reference.safetensors")["logprobs"]
        self._reference = {id(row): logprobs_2 for row, logprobs_2 in zip(rows, stored_N2, strict=True)}

    def _logprobs(self, rows: Sequence[Row], *, max_tokens: int, between: Between) -> torch.Tensor:
        """Log-probability of each pair's answers (N, 2), without dropout."""
        found_N2 = torch.zeros(len(rows), 2, dtype=torch.float64)
        with without_dropout(self._network.model):
            for indices, part in self._network.packs([row.parts for row in rows], max_tokens=max_tokens):
                between()
                found_N2[indices] = _sequence_logprobs(part, self._network.score_pack(part).logprobs_R).view(-1, 2)
        return found_N2

    def train(self, rows: Sequence[Row], *, max_tokens: int, between: Between) -> PairSums:
        """Add the gradient of the pairs' mean loss."""
        total = PairSums()
        for indices, part in self._network.packs([row.parts for row in rows], max_tokens=max_tokens):
            between()
            hidden_RD = self._network.hidden(part)
            sums, slopes_S = self._measure(part, hidden_RD.detach(), [rows[i] for i in indices])
            # By the chain rule the gradient is that of a likelihood whose rows weigh what the loss slopes by them.
            weights_R = _row_sums(part, slopes_S / len(rows))
            self._network.backward(part, hidden_RD, weights_R)
            total += sums
        return total

    def score(self, rows: Sequence[Row], *, max_tokens: int, between: Between) -> PairSums:
        """The same numbers without gradients and without dropout."""
        total = PairSums()
        with without_dropout(self._network.model), torch.no_grad():
            for indices, part in self._network.packs([row.parts for row in rows], max_tokens=max_tokens):
                between()
                total += self._measure(part, self._network.hidden(part), [rows[i] for i in indices])[0]
        return total

    def _measure(self, part: Pack, hidden_RD: torch.Tensor, rows: Sequence[Row]) -> tuple[PairSums, torch.Tensor]:
        """The pairs' sums, and the slope of each sequence's negative log-probability in the summed loss."""
        scored = self._network.score_pack(part, hidden_RD)
        reference_N2 = torch.stack([self._reference[id(row)] for row in rows])
        rewards_N2 = self._beta * (_sequence_logprobs(part, scored.logprobs_R).view(-1, 2) - reference_N2)
        margins_N = rewards_N2[:, 0] - rewards_N2[:, 1]
        pull_N = self._beta * torch.sigmoid(-margins_N)
        is_preferred_K = part.use_sequences_K % 2 == 0
        weights_K = part.use_weights_K * is_preferred_K
        sums = PairSums(
            nll=float(-torch.nn.functional.logsigmoid(margins_N).sum()),
            preferred_reward=float(rewards_N2[:, 0].sum()),
            other_reward=float(rewards_N2[:, 1].sum()),
            wins=float((margins_N > 0).sum()),
            pairs=len(rows),
            tokens=Sums(
                hits=float((scored.hits_R.cpu()[part.use_rows_K] * weights_K).sum()), weight=float(weights_K.sum())
            ),
        )
        return sums, torch.stack([pull_N, -pull_N], dim=1).flatten()


def _sequences(rows: Sequence[Row]) -> list[Rendered]:
    return [part for row in rows for part in row.parts]


def _sequence_logprobs(part: Pack, logprobs_R: torch.Tensor) -> torch.Tensor:
    """Summed log-probabilities of each sequence's trained tokens (S), fp64."""
    weighted_K = logprobs_R.double().cpu()[part.use_rows_K] * part.use_weights_K
    return torch.zeros(part.n_sequences, dtype=torch.float64).index_add_(0, part.use_sequences_K, weighted_K)


def _row_sums(part: Pack, factors_S: torch.Tensor) -> torch.Tensor:
    """Each row's weight when every sequence's tokens are multiplied by its factor."""
    weighted_K = part.use_weights_K * factors_S[part.use_sequences_K]
    weights_R = torch.zeros(len(part.row_targets_R), dtype=torch.float64)
    return weights_R.index_add_(0, part.use_rows_K, weighted_K)
