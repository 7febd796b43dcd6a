"""From records of known shapes to examples: Alpaca, ShareGPT, pairs, preferences, ChatGPT's export."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ftclient.data.chat import CHAT_KEYS, INPUT_KEYS, PREFERENCE_KEYS
from ftclient.data.convert.pairs import chat, completion_to_chat

Make = Callable[[Mapping[str, Any]], "dict[str, Any]"]
"""Makes an example of a record."""


class SkipRecordError(ValueError):
    """A record that gives no example; the text says why."""


_SHAREGPT_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "assistant": "assistant", "model": "assistant", "system": "system", "observation": "tool", "tool": "tool",
    "function_call": "function_call",
}  # fmt: skip


def shape_of(record: Mapping[str, Any]) -> str | None:
    """The name of the shape that a record has by its keys, of `SHAPES`; None if it is a table's row."""
    keys = record.keys()
    if "mapping" in keys and {"title", "current_node", "create_time"} & keys:
        return "chatgpt"
    if keys >= PREFERENCE_KEYS:
        return "preference"
    if "messages" in keys and _listed(record["messages"]):
        return "chat"
    if "conversations" in keys and _listed(record["conversations"]):
        return "sharegpt"
    for shape, needed in _KEYS_BY_SHAPE.items():
        if needed <= keys:
            return shape
    return None


def from_chat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A chat as it is; keys beside the format's are left out, and JSON in strings is read."""
    messages = _listed(record["messages"])
    if messages is None:
        raise SkipRecordError("messages is no list")
    found = {key: _unpacked(record[key]) for key in record if key in CHAT_KEYS and record[key] not in (None, "")}
    return {**found, "messages": messages}


def from_preference(record: Mapping[str, Any]) -> dict[str, Any]:
    """A preference pair in OpenAI's own shape."""
    return {key: _unpacked(record[key]) for key in ("input", "preferred_output", "non_preferred_output")}


def from_pair(record: Mapping[str, Any]) -> dict[str, Any]:
    """A prompt and its completion."""
    _need(record, "prompt", "completion")
    return completion_to_chat(record, system=_text(record.get("system")))


def from_alpaca(record: Mapping[str, Any]) -> dict[str, Any]:
    """An instruction with its input and output, after earlier turns if there are any (`history`)."""
    _need(record, "instruction", "output")
    prompt = "\n\n".join(filter(None, (_text(record["instruction"]), _text(record.get("input")))))
    example = chat(prompt, _text(record["output"]), system=_text(record.get("system")))
    turns: list[dict[str, Any]] = []
    for asked, answered in _listed(record.get("history")) or []:
        turns += chat(str(asked), str(answered))["messages"]
    at = len(example["messages"]) - 2
    example["messages"][at:at] = turns
    return example


def from_sharegpt(record: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation of `from` and `value`, with calls of functions and what they gave."""
    messages: list[dict[str, Any]] = []
    system = _text(record.get("system"))
    if system:
        messages.append({"role": "system", "content": system})
    for at, turn in enumerate(_listed(record["conversations"]) or []):
        name = str(turn.get("from", turn.get("role")) if isinstance(turn, Mapping) else turn)
        role = _SHAREGPT_ROLES.get(name.lower())
        if role is None:
            raise SkipRecordError(f"turn {at + 1} is from {name[:40]!r}, which is no known role")
        messages.append(_turn(role, _text(turn.get("value", turn.get("content"))), at, messages))
    example: dict[str, Any] = {"messages": _up_to_answer(messages)}
    tools = _unpacked(record.get("tools"))
    if tools:
        example["tools"] = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    return example


def from_chosen(record: Mapping[str, Any]) -> dict[str, Any]:
    """A preference pair of `prompt`, `chosen` and `rejected`, as texts or as lists of messages."""
    _need(record, "chosen", "rejected")
    better, worse = _messages_in(record["chosen"]), _messages_in(record["rejected"])
    prompt = _messages_in(record.get("prompt") or [], role="user")
    shared = better[:-1] if not prompt and better[:-1] == worse[:-1] else prompt
    if not shared:
        raise SkipRecordError("there is no prompt that both answers share")
    if better[-1] == worse[-1]:
        raise SkipRecordError("both answers say the same")
    system = _text(record.get("system"))
    before = [{"role": "system", "content": system}] if system else []
    given = {key: _unpacked(record[key]) for key in INPUT_KEYS - {"messages"} if record.get(key)}
    return {
        "input": {"messages": [*before, *shared], **given},
        "preferred_output": better[-1:],
        "non_preferred_output": worse[-1:],
    }


def from_chatgpt(record: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation of ChatGPT's data export: the branch that was last shown, its texts only."""
    messages: list[dict[str, Any]] = []
    for message in _branch(record):
        role = message["author"]["role"]
        text = "\n".join(part for part in message["content"].get("parts", ()) if isinstance(part, str)).strip()
        if not text or role not in {"user", "assistant", "system"}:
            continue
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n\n{text}"
        else:
            messages.append({"role": role, "content": text})
    return {"messages": _up_to_answer(messages)}


SHAPES: dict[str, Make] = {
    "chat": from_chat,
    "preference": from_preference,
    "chosen": from_chosen,
    "sharegpt": from_sharegpt,
    "alpaca": from_alpaca,
    "pairs": from_pair,
    "chatgpt": from_chatgpt,
}
"""Known shapes of records by name."""

_KEYS_BY_SHAPE = {
    "chosen": frozenset({"chosen", "rejected"}),
    "alpaca": frozenset({"instruction", "output"}),
    "pairs": frozenset({"prompt", "completion"}),
}


def _branch(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The messages from the first to the current one; regenerated answers lie on other branches."""
    nodes = record["mapping"]
    at = record.get("current_node") or next(reversed(nodes), None)
    path: list[Mapping[str, Any]] = []
    while at in nodes and len(path) <= len(nodes):
        path.append(nodes[at])
        at = nodes[at].get("parent")
    for node in reversed(path):
        message = node.get("message")
        if isinstance(message, Mapping) and not (message.get("metadata") or {}).get(
            "is_visually_hidden_from_conversation"
        ):
            yield message


def _turn(role: str, text: str, at: int, before: list[dict[str, Any]]) -> dict[str, Any]:
    if role == "function_call":
        call = _unpacked(text)
        if not isinstance(call, Mapping) or "name" not in call:
            raise SkipRecordError(f"turn {at + 1} calls a function, but is not JSON with a name")
        arguments = call.get("arguments", {})
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        function = {"name": call["name"], "arguments": written}
        return {"role": "assistant", "tool_calls": [{"id": f"call_{at}", "type": "function", "function": function}]}
    if role == "tool":
        calls = before[-1].get("tool_calls") if before else None
        if not calls:
            raise SkipRecordError(f"turn {at + 1} answers a call that was not made")
        return {"role": "tool", "tool_call_id": calls[0]["id"], "content": text}
    return {"role": role, "content": text}


def _up_to_answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation up to its last answer: what follows would not be trained."""
    last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=None)
    if last is None:
        raise SkipRecordError("there is no answer of the assistant")
    if all(message["role"] in {"system", "assistant"} for message in messages[: last + 1]):
        raise SkipRecordError("nobody asks anything")
    return messages[: last + 1]


def _messages_in(value: Any, *, role: str = "assistant") -> list[dict[str, Any]]:
    listed = _listed(value)
    if listed:
        return listed
    return [{"role": role, "content": value}] if isinstance(value, str) and value.strip() else []


def _need(record: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if not record.get(key):
            raise SkipRecordError(f"{key} is empty")


def _listed(value: Any) -> list[Any] | None:
    found = _unpacked(value)
    return found if isinstance(found, list) and found else None


def _unpacked(value: Any) -> Any:
    """A value that may be written as JSON in a string, as in cells of tables."""
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
