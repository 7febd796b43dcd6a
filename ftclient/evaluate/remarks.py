"""What there is to know about the answers of a model before they are believed."""

from __future__ import annotations

from collections.abc import Sequence

from ftclient.evaluate import reasoning
from ftclient.evaluate.asking import Asker
from ftclient.evaluate.questions import Answer
from ftclient.evaluate.store import oldest_day


def remarks(asker: Asker, model: str, answers: Sequence[Answer]) -> list[str]:
    """Return in words that answers may be another model's, and that some were cut off before they began.

    Args:
        asker: Knows whether the model's name leads to the same weights at all times.
        model: Whose answers they are.
        answers: All of them.
    """
    doubt = None if asker.is_fixed(model) else _dubious(answers)
    return [text for text in (doubt, reasoning.complaint(answers)) if text]


def _dubious(answers: Sequence[Answer]) -> str | None:
    """What there is to know of answers of earlier calls, where their model may be another one by now."""
    oldest = oldest_day(answers)
    if oldest is None:
        return None
    n = sum(answer.is_stored for answer in answers)
    return (
        f"{n:,} of {len(answers):,} answers are of earlier calls, the oldest of {oldest}. If the name leads to another "
        "model since, ask again: --fresh, or fresh=True."
    )
