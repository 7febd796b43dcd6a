"""Scores of single answers."""

from __future__ import annotations

import json


def exact_match(answer: str, expected: str) -> bool:
    """Whether the answer is the expected one, character by character, but for white space around it."""
    return answer.strip() == expected.strip()


def is_json(text: str) -> bool:
    """Whether the text is one JSON object or array and nothing else."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
