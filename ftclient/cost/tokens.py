"""How many tokens of a training file a host reads and bills: those of longer examples only up to its context."""

from __future__ import annotations

from dataclasses import dataclass

from ftclient.data import Dataset, Limits, Report
from ftclient.data.tokens import DEFAULT_ENCODING, count_example, encoding_for


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of one pass over the training file."""

    per_epoch: int
    loss_per_epoch: int
    """Those that are learned from; the others are only read."""
    n_cut: int = 0
    """Examples that are longer than the host reads, and end where it stops."""
    is_estimate: bool = False


def count_tokens(data: Dataset, report: Report, *, model: str, method: str, limits: Limits) -> Tokens | None:
    """Return the tokens of a checked file as the host counts them; None where the vocabulary cannot be had.

    Args:
        data: The file.
        report: Its check for this model, which has counted whole examples where it knows the encoding.
        model: Decides the encoding. Models of unknown makers are counted with o200k, as an estimate.
        method: What the file is for.
        limits: Those of the host for this model.
    """
    counted = report.stats.get("tokens")
    if not counted:
        return None if encoding_for(model) else _recount(data, DEFAULT_ENCODING, method, limits, is_estimate=True)
    if limits.context_tokens is None or counted["per_example"]["max"] <= limits.context_tokens:
        return Tokens(
            per_epoch=int(counted["total"]),
            loss_per_epoch=int(counted["trained"]),
            is_estimate=bool(counted["is_estimate"]),
        )
    is_estimate = bool(counted["is_estimate"])
    return _recount(data, str(counted["encoding"]), method, limits, is_estimate=is_estimate)


def _recount(data: Dataset, encoding: str, method: str, limits: Limits, *, is_estimate: bool) -> Tokens | None:
    """Count example by example; what is trained of one that is cut is in proportion, which is an estimate."""
    total, trained, n_cut = 0, 0.0, 0
    try:
        for example in data:
            count = count_example(example, encoding, method=method)
            kept = min(count.total, limits.context_tokens or count.total)
            total += kept
            trained += count.trained * kept / max(1, count.total)
            n_cut += kept < count.total
    except LookupError:
        return None
    return Tokens(per_epoch=total, loss_per_epoch=round(trained), n_cut=n_cut, is_estimate=is_estimate or n_cut > 0)
