"""Examples that are longer than the model reads: cut at a turn, or let go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ftclient.data.prompts import role_of

CountTokens = Callable[[Mapping[str, Any]], int]


def cut_at_turn(example: Mapping[str, Any], *, context_tokens: int, count_tokens: CountTokens) -> dict[str, Any] | None:
    """Take the last turns away until the example fits.

    The cut is after an assistant message whose calls, if it made any, are still answered or are the last word.

    Args:
        example: A chat example.
        context_tokens: Most tokens it may have.
        count_tokens: Counts the tokens of an example.

    Returns:
        The shorter example, or None if even its first turn is too long, or it is no chat.
    """
    messages = example.get("messages")
    if not isinstance(messages, list):
        return None
    ends = [at + 1 for at, message in enumerate(messages) if role_of(message) == "assistant"]
    low, high = 0, len(ends)
    while low < high:  # tokens grow with every turn, so the longest that fits is found by halving
        middle = (low + high + 1) // 2
        fits = count_tokens({**example, "messages": messages[: ends[middle - 1]]}) <= context_tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    return (
        {**example, "messages": messages[: ends[low - 1]]} if low and _is_trained(messages[: ends[low - 1]]) else None
    )


def _is_trained(messages: list[Any]) -> bool:
    assistants = [message for message in messages if role_of(message) == "assistant"]
    return any(message.get("weight", 1) != 0 for message in assistants)
