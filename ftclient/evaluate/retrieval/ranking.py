"""How well a search finds what it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ftclient.evaluate.retrieval.index import Hit


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What came of searches whose right source is known."""

    n_questions: int
    k: int
    hit_rate: float
    """The share of questions whose source is among the first k passages."""
    mean_reciprocal_rank: float
    """The mean of 1 / place of the source, 0 where it is not among them."""


def measure(found: Sequence[tuple[Sequence[Hit], str]], *, k: int) -> Ranking | None:
    """Measure searches against their right sources; None if there are none.

    Args:
        found: The hits of a question, and its source: a document's name, or `name#3` for its third passage.
        k: How many hits count.
    """
    if not found:
        return None
    places = [_place(hits[:k], source) for hits, source in found]
    return Ranking(
        n_questions=len(found),
        k=k,
        hit_rate=sum(place is not None for place in places) / len(places),
        mean_reciprocal_rank=sum(1 / place for place in places if place) / len(places),
    )


def _place(hits: Sequence[Hit], source: str) -> int | None:
    matching = (
        place for place, hit in enumerate(hits, start=1) if source in {hit.passage.document, hit.passage.source}
    )
    return next(matching, None)
