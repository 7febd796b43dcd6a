"""Numbers with their nouns."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which takes a plural "s" unless there is one: `1 epoch`, `1,200 examples`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
