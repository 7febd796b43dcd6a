"""The shapes of training examples, as OpenAI's fine-tuning API reads them.

Three formats are trained on: chat (`supervised`), preference (`dpo`) and reinforcement. Prompt/completion pairs are
known only so that they can be recognised and converted.
"""

from __future__ import annotations

from typing import Any, Literal

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
