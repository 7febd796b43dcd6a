"""How often a host passes over the data when it is left to choose."""

from __future__ import annotations

import math
from typing import NamedTuple

from ftclient.data.counted import counted

TARGET_EPOCHS = 3
MIN_TARGET_EXAMPLES = 100
MAX_TARGET_EXAMPLES = 25_000
MAX_DEFAULT_EPOCHS = 25
"""OpenAI's cookbook ("Data preparation and analysis for chat model fine-tuning"); real jobs agree with it."""


class Epochs(NamedTuple):
    """A number of epochs, and where it comes from in words."""

    n_epochs: int
    rule: str


def resolve_epochs(n_epochs: int | str, *, n_examples: int) -> Epochs:
    """Return the epochs that a job over `n_examples` will run; `auto` follows OpenAI's published rule."""
    if isinstance(n_epochs, int):
        return Epochs(n_epochs, f"{counted(n_epochs, 'epoch')}, as asked for")
    wished = n_examples * TARGET_EPOCHS
    start = f"{n_examples:,} examples: {n_examples:,} x {TARGET_EPOCHS}"
    if n_examples > 0 and wished < MIN_TARGET_EXAMPLES:
        chosen = min(MAX_DEFAULT_EPOCHS, MIN_TARGET_EXAMPLES // n_examples)
        capped = f", at most {MAX_DEFAULT_EPOCHS}" if MIN_TARGET_EXAMPLES // n_examples > MAX_DEFAULT_EPOCHS else ""
        return Epochs(
            chosen,
            f"{start} is under {MIN_TARGET_EXAMPLES}, so {MIN_TARGET_EXAMPLES} // {n_examples}"
            f"{capped} = {counted(chosen, 'epoch')}",
        )
    if wished > MAX_TARGET_EXAMPLES:
        chosen = max(1, MAX_TARGET_EXAMPLES // n_examples)
        least = ", at least 1" if n_examples > MAX_TARGET_EXAMPLES else ""
        return Epochs(
            chosen,
            f"{start} is over {MAX_TARGET_EXAMPLES:,}, so {MAX_TARGET_EXAMPLES:,} // {n_examples:,}"
            f"{least} = {counted(chosen, 'epoch')}",
        )
    return Epochs(
        TARGET_EPOCHS,
        f"{start} lies between {MIN_TARGET_EXAMPLES} and {MAX_TARGET_EXAMPLES:,}, so {counted(TARGET_EPOCHS, 'epoch')}",
    )


def n_steps(n_examples: int, *, batch_size: int, n_epochs: int) -> int:
    """Return the optimizer steps of a job; the last batch of an epoch may be smaller."""
    return math.ceil(n_examples / batch_size) * n_epochs
