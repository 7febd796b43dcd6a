"""Halves of surrogate pairs: models write them, JSON can name them, and no text that is sent can hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def without_halves(value: Any) -> Any:
    """Return a JSON value whose texts can be written as UTF-8: pairs are joined, and halves become U+FFFD."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {without_halves(key): without_halves(each) for key, each in value.items()}
    return [without_halves(each) for each in value] if isinstance(value, list) else value
