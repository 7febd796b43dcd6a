"""How often a host passes over the data, and in which batches, when it is left to choose."""

from __future__ import annotations

import math
from typing import NamedTuple

from ftclient.data.counted import counted

TARGET_EPOCHS = 3
MIN_TARGET_EXAMPLES = 100
MAX_TARGET_EXAMPLES = 25_000
MAX_DEFAULT_EPOCHS = 25
"""OpenAI's cookbook ("Data preparation and analysis for chat model fine-tuning"); real jobs agree with it."""


AZURE_DEFAULT_EPOCHS = 2
"""Azure's cost guide counts with 2 epochs where none are chosen; a rule by the number of examples is not published."""

BATCH_PER_MILLE = 2
MAX_DEFAULT_BATCH = 256
"""About 0.2 % of the examples, at most 256: the rule of OpenAI's older /v1/fine-tunes. Nothing is published for the
present API; jobs of 10 to 101 examples ran with 1, as the rule says."""
EXAMPLES_PER_LOCAL_BATCH = 20
MAX_LOCAL_BATCH = 32
"""The local backend's rule."""


class Epochs(NamedTuple):
    """A number of epochs, and where it comes from in words."""

    n_epochs: int
    rule: str


class Batch(NamedTuple):
    """Examples an optimizer step, and where the number comes from in words."""

    size: int
    rule: str
    is_assumed: bool = False
    """The host does not say how it chooses."""


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


def resolve_host_epochs(n_epochs: int | str, *, n_examples: int, host_name: str) -> tuple[Epochs, bool]:
    """Return the epochs that a job will run at a host, and whether its rule is only assumed."""
    if isinstance(n_epochs, int) or host_name == "openai":
        return resolve_epochs(n_epochs, n_examples=n_examples), False
    if host_name == "azure":
        words = f"{counted(AZURE_DEFAULT_EPOCHS, 'epoch')}, Azure's default"
        return Epochs(AZURE_DEFAULT_EPOCHS, words), True
    return resolve_epochs(n_epochs, n_examples=n_examples), True


def resolve_batch(batch_size: int | str, *, n_examples: int, host_name: str) -> Batch | None:
    """Return the examples a step at a hosted backend; None where nothing is known of how it chooses."""
    if isinstance(batch_size, int):
        return Batch(batch_size, f"{counted(batch_size, 'example')} a step, as asked for")
    if host_name != "openai":
        return None
    share = n_examples * BATCH_PER_MILLE // 1000
    size = max(1, min(MAX_DEFAULT_BATCH, share))
    start = f"{n_examples:,} examples: 0.2 % of them is "
    if share < 1:
        return Batch(size, f"{start}less than 1, so 1 example a step", is_assumed=True)
    most = f", at most {MAX_DEFAULT_BATCH}" if share > MAX_DEFAULT_BATCH else ""
    return Batch(size, f"{start}{share:,}{most}, so {counted(size, 'example')} a step", is_assumed=True)


def explain_local_batch(batch_size: int, *, asked: int | str, n_examples: int) -> Batch:
    """Return the examples a step that the local backend has chosen, in words."""
    if isinstance(asked, int):
        return Batch(batch_size, f"{counted(batch_size, 'example')} a step, as asked for")
    share = n_examples // EXAMPLES_PER_LOCAL_BATCH
    words = f"{n_examples:,} examples: {n_examples:,} // {EXAMPLES_PER_LOCAL_BATCH} is {share:,}"
    if batch_size != min(MAX_LOCAL_BATCH, max(1, share)):
        return Batch(batch_size, f"{counted(batch_size, 'example')} a step, as the backend chooses")
    bound = ", at least 1" if share < 1 else f", at most {MAX_LOCAL_BATCH}" if share > MAX_LOCAL_BATCH else ""
    return Batch(batch_size, f"{words}{bound}, so {counted(batch_size, 'example')} a step")


def n_steps(n_examples: int, *, batch_size: int, n_epochs: int) -> int:
    """Return the optimizer steps of a job; the last batch of an epoch may be smaller."""
    return math.ceil(n_examples / batch_size) * n_epochs
