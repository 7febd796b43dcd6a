"""What is to be compared, and how."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal, get_args

from ftclient.data import Dataset

ApproachName = Literal["base", "examples", "rag", "head", "lora", "full"]
"""By the effort that they take, least first."""
APPROACHES: tuple[ApproachName, ...] = get_args(ApproachName)
TRAINED: tuple[ApproachName, ...] = ("head", "lora", "full")
"""Those that need a job."""

TITLES: dict[ApproachName, str] = {
    "base": "base model",
    "examples": "examples in the prompt",
    "rag": "retrieval (RAG)",
    "head": "transfer learning (head only)",
    "lora": "fine-tuning (LoRA)",
    "full": "fine-tuning (all weights)",
}
GOOD_ENOUGH = 0.9


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is to be compared, and how."""

    docs: Path | None = None
    """Folder with the user's documents; without one there is no retrieval."""
    approaches: tuple[ApproachName, ...] | None = None
    """None: all that the data and the host allow."""
    valid: Dataset | None = None
    """What training looks at along the way."""
    n_shots: int = 4
    """Examples in the prompt."""
    n_passages: int = 3
    """Passages in the prompt."""
    n_epochs: int | None = None
    batch_size: int | None = None
    """Of training; None lets the host choose."""
    max_tokens: int | None = None
    """Longest answer; None is just long enough for the longest expected one, and room for a citation.

    What a model thinks before it answers is part of it; with None, models that do so have more room.
    """
    good_enough: float = GOOD_ENOUGH
    """From where on a simpler approach is enough, though another may do a little better."""
    max_cost_usd: Decimal | float | str | None = None
    """Refuse if training and answers together may cost more."""
    fresh: bool = False
    """Ask again what was asked before; jobs are found again all the same."""
    seed: int = 7
