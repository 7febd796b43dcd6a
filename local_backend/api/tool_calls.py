"""Calls of tools in what a model writes: the form of its template becomes that of the API.

Open models' templates write calls in two forms: JSON objects between <tool_call> and </tool_call> (Hermes, Qwen,
SmolLM), and a bare JSON object, or a list of them, that is the whole answer (Llama 3, Mistral). All else is text, and
so are calls of functions that nobody has offered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from local_backend.names import new_id

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_TAGGED = re.compile(rf"{_OPEN}(.*?)(?:{_CLOSE}|\Z)", re.DOTALL)
_ANSWER_NAMES = ("arguments", "parameters")


class CallReader:
    """Takes one answer apart as it comes: text that is certain to be text goes on at once, calls wait for the end.

    Args:
        tools: What the request offers; without any, everything is text.
        calls_many: Whether an answer may call several; otherwise calls after the first are left out.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]], *, calls_many: bool = True) -> None:
        offered = (tool.get("function") or {} for tool in tools)
        self._names = {str(function.get("name")) for function in offered}
        self._calls_many = calls_many
        self._held = ""
        self._has_spoken = False

    def feed(self, piece: str) -> str:
        """Take in a piece of the answer, and return what of it is text for certain."""
        if not self._names:
            return piece
        self._held += piece
        begin = self._held.lstrip()
        if not self._has_spoken and (not begin or begin[0] in "{["):
            return ""
        at = self._held.find(_OPEN)
        said, self._held = _split(self._held, _sure_length(self._held) if at < 0 else at)
        self._has_spoken = self._has_spoken or bool(said.strip())
        return said

    def end(self) -> tuple[str, list[dict[str, Any]]]:
        """Return the rest of the answer: as text, or as `tool_calls` of the API."""
        found = [self._call(value) for value in _values(self._held)]
        calls = [call for call in found if call is not None]
        if calls and len(calls) == len(found):
            return "", calls if self._calls_many else calls[:1]
        return self._held, []

    def _call(self, value: object) -> dict[str, Any] | None:
        if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
            value = value["function"]
        if not isinstance(value, Mapping) or value.get("name") not in self._names:
            return None
        arguments: object = next((value[name] for name in _ANSWER_NAMES if name in value), {})
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return {
            "id": new_id("call_"),
            "type": "function",
            "function": {"name": value["name"], "arguments": text},
        }


def _split(text: str, at: int) -> tuple[str, str]:
    return text[:at], text[at:]


def _sure_length(text: str) -> int:
    """Return how much of a text cannot be the beginning of a tag."""
    for length in range(min(len(_OPEN) - 1, len(text)), 0, -1):
        if _OPEN.startswith(text[-length:]):
            return len(text) - length
    return len(text)


def _values(text: str) -> list[object]:
    """Return the JSON values that an answer consists of; [None] where it consists of something else."""
    parts = _TAGGED.findall(text) if _OPEN in text else [text]
    if not text.strip() or (_OPEN in text and _TAGGED.sub("", text).strip()):
        return [None]
    try:
        values = [json.loads(part) for part in parts]
    except (ValueError, RecursionError):
        return [None]
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values
