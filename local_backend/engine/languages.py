"""Whether a model's tokenizer was made for the language of some texts; by counts, whatever the language is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_TOKENS_A_CHARACTER = 1.2
"""More means single bytes: English takes about 0.25, Chinese and Japanese 0.6 to 1 where a tokenizer knows them, and 2
to 3 where it does not."""
MOST_UNKNOWN_SHARE = 0.05
LOOKED_AT = 300
"""Examples of a file whose texts are counted."""


def chat_notes(path: Path, tokenizer: Any) -> list[str]:
    """What is to be said of the language of a chat file: whether a model's tokenizer knows it."""
    n_tokens = n_characters = 0
    with path.open("rb") as file:
        for _, line in zip(range(LOOKED_AT), file, strict=False):
            for text in _texts(json.loads(line)) if line.strip() else ():
                n_characters += len(text)
                n_tokens += len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    note = shredded_note(n_tokens, n_characters)
    return [note] if note else []


def _texts(example: Mapping[str, Any]) -> Iterator[str]:
    given = example.get("input", example)
    for message in [*given["messages"], *example.get("preferred_output", ())]:
        if isinstance(message.get("content"), str):
            yield message["content"]


def shredded_note(n_tokens: int, n_characters: int) -> str | None:
    """Say that a tokenizer takes texts apart into bytes; None where it does not."""
    if not n_characters or n_tokens / n_characters <= MOST_TOKENS_A_CHARACTER:
        return None
    return (
        f"The model's tokenizer takes {n_tokens / n_characters:.1f} tokens for a character of these texts: it was not "
        "made for their language, which costs time and quality. Choose a model that was trained on it."
    )


def unknown_note(n_unknown: int, n_tokens: int) -> str | None:
    """Say that a tokenizer does not know parts of texts at all; None where it knows (nearly) everything."""
    if not n_tokens or n_unknown / n_tokens <= MOST_UNKNOWN_SHARE:
        return None
    return (
        f"The model's tokenizer does not know {n_unknown / n_tokens:.0%} of the tokens of these texts: the model can't "
        "see them. Choose a model that was trained on their language."
    )
