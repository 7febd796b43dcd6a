"""How good a classifier is: accuracy, F1, confusion, and whether its probabilities can be believed.

Shapes: N examples, L labels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

N_BINS = 15
"""Bins of confidence for the calibration error, as in arXiv 1706.04599."""
MOST_CONFUSED = 20
MOST_LABELS = 300
"""Of more labels the table of which is taken for which is left out: it grows with their square."""
FEW_WRONG = 10
"""Fewer wrong answers say little about how often sure ones are wrong."""
PRIOR = 2.0
"""How much is held against temperatures far from 1 (nats): the inverse of one is believed to be 1.5 +- 0.9 unseen."""


@dataclass(frozen=True)
class Scores:
    """Logits and truth of some examples."""

    logits_NL: torch.Tensor
    targets_NL: torch.Tensor
    """1 where a label is right."""
    is_multi: bool

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(mean_loss(self.logits_NL, self.targets_NL, is_multi=self.is_multi))

    @property
    def predicted_NL(self) -> torch.Tensor:
        """Which labels the classifier gives (booleans)."""
        if self.is_multi:
            return self.logits_NL > 0
        return torch.nn.functional.one_hot(self.logits_NL.argmax(1), self.logits_NL.shape[1]).bool()

    @property
    def right_N(self) -> torch.Tensor:
        """Whether all labels of an example are right (booleans)."""
        return (self.predicted_NL == self.targets_NL.bool()).all(1)

    @property
    def accuracy(self) -> float:
        """Share of examples whose labels are all right."""
        return float(self.right_N.float().mean())


def losses(logits_NL: torch.Tensor, targets_NL: torch.Tensor, *, is_multi: bool) -> torch.Tensor:
    """Cross-entropy of each example in nats; of several labels, the sum over labels of binary ones."""
    targets_NL = targets_NL.to(logits_NL.dtype)
    if is_multi:
        return binary_cross_entropy_with_logits(logits_NL, targets_NL, reduction="none").sum(1)
    return cross_entropy(logits_NL, targets_NL, reduction="none")


def mean_loss(logits_NL: torch.Tensor, targets_NL: torch.Tensor, *, is_multi: bool) -> torch.Tensor:
    """The mean of `losses`."""
    return losses(logits_NL, targets_NL, is_multi=is_multi).mean()


def report(scores: Scores, names: Sequence[str], *, temperature: float) -> dict[str, Any]:
    """Everything there is to say about a validation, as JSON.

    Returns:
        accuracy, macro_f1, temperature; temperature_note where few errors stand behind that; as_trained and calibrated
        {ece, bins}, the latter after dividing logits by the temperature; per_class [{label, precision, recall, f1, n}];
        and, of single labels, confused, the pairs that are mixed up most, and of up to 300 labels confusion (rows are
        the true ones, columns the given ones).
    """
    found: dict[str, Any] = {
        "n": len(scores.logits_NL),
        "accuracy": scores.accuracy,
        **macro(scores),
        "as_trained": calibration(scores),
        "temperature": temperature,
        "calibrated": calibration(scores, temperature=temperature),
        "labels": list(names),
        "per_class": per_class(scores, names),
    }
    n_wrong = int((~scores.right_N).sum())
    if n_wrong < FEW_WRONG:
        found["temperature_note"] = _few_wrong(n_wrong, len(scores.logits_NL))
    if not scores.is_multi:
        found["confused"] = _confused(scores, names)
        if len(names) <= MOST_LABELS:
            found["confusion"] = confusion(scores).tolist()
    return found


def per_class(scores: Scores, names: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each label; 0 where nothing was given or there is nothing to find."""
    truth_NL, given_NL = scores.targets_NL.bool(), scores.predicted_NL
    right_L, n_given_L, n_true_L = ((x.sum(0).double()) for x in (truth_NL & given_NL, given_NL, truth_NL))
    precision_L, recall_L = right_L / n_given_L.clamp(min=1), right_L / n_true_L.clamp(min=1)
    f1_L = 2 * right_L / (n_given_L + n_true_L).clamp(min=1)
    return [
        {"label": name, "precision": float(p), "recall": float(r), "f1": float(f), "n": int(n)}
        for name, p, r, f, n in zip(names, precision_L, recall_L, f1_L, n_true_L, strict=True)
    ]


def macro(scores: Scores) -> dict[str, float]:
    """Mean F1 over the labels that occur."""
    rows = per_class(scores, [str(i) for i in range(scores.logits_NL.shape[1])])
    seen = [row["f1"] for row in rows if row["n"]]
    return {"macro_f1": sum(seen) / max(1, len(seen))}


def confusion(scores: Scores) -> torch.Tensor:
    """How often each true label (row) was given as each label (column)."""
    n = scores.logits_NL.shape[1]
    pairs_N = scores.targets_NL.argmax(1) * n + scores.logits_NL.argmax(1)
    return torch.bincount(pairs_N, minlength=n * n).view(n, n)


def calibration_error(scores: Scores, *, temperature: float = 1.0) -> float:
    """Expected calibration error (arXiv 1706.04599): mean gap between confidence and share right, by bins."""
    return float(calibration(scores, temperature=temperature)["ece"])


def calibration(scores: Scores, *, temperature: float = 1.0) -> dict[str, Any]:
    """Return the calibration error, and mean confidence, share right and number of answers of each bin that has any."""
    confidence_N, right_N = _confidence(scores, temperature)
    bins_N = (confidence_N * N_BINS).long().clamp(max=N_BINS - 1)
    bins = [
        {
            "confidence": float(confidence_N[own].mean()),
            "right": float(right_N[own].double().mean()),
            "n": int(own.sum()),
        }
        for own in (bins_N == i for i in range(N_BINS))
        if own.any()
    ]
    error = sum(one["n"] * abs(one["right"] - one["confidence"]) for one in bins)
    return {"ece": error / len(confidence_N), "bins": bins}


def _confidence(scores: Scores, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How sure each answer is, and whether it is right; of several labels, each label's is an answer."""
    logits_NL = scores.logits_NL.double() / temperature
    if scores.is_multi:
        given_NL = torch.sigmoid(logits_NL)
        return torch.maximum(given_NL, 1 - given_NL).flatten(), (
            scores.predicted_NL == scores.targets_NL.bool()
        ).flatten()
    confidence_N, best_N = torch.softmax(logits_NL, 1).max(1)
    return confidence_N, scores.targets_NL.gather(1, best_N[:, None])[:, 0] > 0


def fit_temperature(scores: Scores) -> float:
    """The temperature (between 0.05 and 20) that makes the truth most likely, if it is taken to be near 1 until then.

    Without that the likelihood of answers that are all right has no highest point: the surer, the likelier. The prior
    of the inverse temperature is a Gamma distribution whose mode is 1; a few hundred examples outweigh it.
    """
    logits_NL = scores.logits_NL.double()

    def cost(log_temperature: float) -> float:
        sharpness = math.exp(-log_temperature)
        fit = float(losses(logits_NL * sharpness, scores.targets_NL, is_multi=scores.is_multi).sum())
        return fit + PRIOR * (sharpness + log_temperature)

    low, high = -3.0, 3.0
    shrink = 0.6180339887498949  # golden section: the cost is convex in the inverse temperature, so it has one valley
    for _ in range(40):
        left, right = high - shrink * (high - low), low + shrink * (high - low)
        low, high = (low, right) if cost(left) <= cost(right) else (left, high)
    return math.exp((low + high) / 2)


def _few_wrong(n_wrong: int, n: int) -> str:
    return (
        f"{n_wrong} of {n:,} validation examples are wrong: too few to tell how often the model errs when it is sure. "
        "The more validation data, the more its probabilities can be relied upon."
    )


def _confused(scores: Scores, names: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs that are mixed up most often."""
    wrong_N = ~scores.right_N
    true, given = (values_NL[wrong_N].argmax(1).tolist() for values_NL in (scores.targets_NL, scores.logits_NL))
    counts = sorted(Counter(zip(true, given, strict=True)).items(), key=lambda item: (-item[1], item[0]))
    return [{"label": names[i], "given": names[j], "n": n} for (i, j), n in counts[:MOST_CONFUSED]]
