"""Texts as vectors, on this machine: WordLlama's static embeddings, whose weights come inside its package."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

N_DIMENSIONS = 256
_LOADING = threading.Lock()


def encode(texts: Sequence[str]) -> list[list[float]]:
    """Return a vector of length 1 for each text (of zeros for a text without tokens); likeness is their dot product.

    Nothing is downloaded. The embeddings know English best, and single words better than their order.

    Raises:
        ImportError: The extra `evaluate` is not installed.
    """
    if not texts:
        return []
    with _LOADING:
        encoder = _encoder()
    return [_to_length_one([float(value) for value in vector]) for vector in encoder.embed(list(texts))]


def cosine(text: str, reference: str) -> float:
    """Return the cosine of two texts' vectors, cut to 0 to 1 as rewards are."""
    a, b = encode([text, reference])
    found = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return min(1.0, max(0.0, found))


def _to_length_one(vector: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(value * value for value in vector))
    return [value / length for value in vector] if length else vector


@contextmanager
def _logging_untouched() -> Iterator[None]:
    """Undo what WordLlama's import does to the program's logging: a handler at the root, and everything at INFO."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@lru_cache(maxsize=1)
def _encoder() -> Any:
    with _logging_untouched():
        import wordllama

    # Its own search looks for a folder `tokenizer`, which is called `tokenizers` in the package.
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
