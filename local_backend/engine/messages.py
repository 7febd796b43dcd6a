"""Messages and tools of the wire in the words that open models' chat templates know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from local_backend.task import UserError

Message = Mapping[str, Any]

_OTHER_WORDS = frozenset({"function_call", "refusal"})
_ROLES = {"developer": "system", "function": "tool"}


def plain_message(message: Message) -> dict[str, Any]:
    """One message: its content as one text, its role and calls as templates name them.

    Raises:
        UserError: It holds a part that is no text.
    """
    plain = {key: value for key, value in message.items() if key not in _OTHER_WORDS}
    plain["role"] = _ROLES.get(message["role"], message["role"])
    plain["content"] = _content_text(message.get("content") or message.get("refusal") or "")
    calls = list(message.get("tool_calls") or ())
    if message.get("function_call"):
        calls.append({"type": "function", "function": message["function_call"]})
    if calls:
        plain["tool_calls"] = [_plain_call(call) for call in calls]
    return plain


def weight_of(message: Message) -> float:
    """How much a message counts in the loss: 1 unless it says otherwise, and 0 of all but the assistant's."""
    if message["role"] != "assistant":
        return 0.0
    weight = message.get("weight")
    return 1.0 if weight is None else float(weight)


def tools_of(example: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tools that an example declares, old-style functions among them."""
    functions = [{"type": "function", "function": function} for function in example.get("functions") or ()]
    return [*(example.get("tools") or ()), *functions]


def called_names(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all functions that are offered or called, each once.

    Raises:
        UserError: A tool is no function with a name.
    """
    calls = (call for message in messages for call in message.get("tool_calls") or ())
    return list(dict.fromkeys([*map(_name, tools), *map(_name, calls)]))


def renamed(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> tuple[list[Message], list[Mapping[str, Any]]]:
    """The same messages and tools with other names for their functions."""

    def rename(call: Mapping[str, Any]) -> dict[str, Any]:
        return {**call, "function": {**call["function"], "name": names[_name(call)]}}

    changed = [
        {**message, "tool_calls": [rename(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]
    return changed, [rename(tool) for tool in tools]


def _name(call: Mapping[str, Any]) -> str:
    function = call.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        raise UserError("Each tool must be a function with a name.", param="tools", code="invalid_value")
    return name


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    kinds = {part["type"] for part in content} - {"text", "refusal"}
    if kinds:
        text = f"This model reads text only; a message holds a part of type {min(kinds)!r}."
        raise UserError(text, param="messages", code="model_not_supported")
    return "".join(part.get("text") or part.get("refusal") or "" for part in content)


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Templates write the arguments as JSON themselves, so they get the parsed object."""
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        with suppress(ValueError):  # a model may have answered with broken JSON: it reads what it wrote
            function["arguments"] = json.loads(function["arguments"])
    return {**call, "function": function}
