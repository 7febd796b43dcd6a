"""The shapes of training examples, as OpenAI's fine-tuning API reads them.

Three formats are trained on: chat (`supervised`), preference (`dpo`) and reinforcement. Prompt/completion pairs are
known only so that they can be recognised and converted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from ftclient.errors import DataError

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

CHAT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
PREFERENCE_KEYS = frozenset({"input", "preferred_output", "non_preferred_output"})
INPUT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls"})
MESSAGE_KEYS = frozenset({"role", "content", "name", "weight"})
KEYS_BY_ROLE = {
    "assistant": frozenset({"tool_calls", "function_call", "refusal"}),
    "tool": frozenset({"tool_call_id"}),
}
"""What a message of this role may have beside MESSAGE_KEYS."""

Format = Literal["chat", "preference", "completion", "unknown"]


def format_of(example: Any) -> Format:
    """Recognise the format of one example by its keys."""
    if not isinstance(example, dict):
        return "unknown"
    if "messages" in example:
        return "chat"
    if PREFERENCE_KEYS & example.keys():
        return "preference"
    if "prompt" in example or "completion" in example:
        return "completion"
    return "unknown"


def plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a message as JSON, without keys that hold nothing: answers of hosts have many of them.

    Args:
        message: Also one of the official client's objects, or what holds some.

    Raises:
        DataError: It holds something else.
    """
    said = {key: value for key, value in dict(message).items() if key == "content" or value not in (None, [])}
    try:
        copy: dict[str, Any] = json.loads(json.dumps(said, default=_fields))
    except TypeError as error:
        raise DataError(f"A message cannot be written as JSON: {error}.") from None
    return copy


def _fields(value: Any) -> Any:
    """Return the fields of one of the official client's objects, as it sends them."""
    if not hasattr(value, "to_dict"):
        raise TypeError(f"it holds a {type(value).__name__}")
    return value.to_dict(mode="json", exclude_none=True)
