"""Mending what `check` finds, issue by issue, where there is one way to do it that keeps the meaning."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Container, Iterator, Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, NamedTuple

from ftclient.data.chat import CHAT_KEYS, INPUT_KEYS, KEYS_BY_ROLE, MESSAGE_KEYS, PREFERENCE_KEYS, ROLES
from ftclient.data.check_methods import check_example
from ftclient.data.clean.changes import Change, shown
from ftclient.data.findings import Findings
from ftclient.data.limits import OPENAI_LIMITS, Limits, Method
from ftclient.data.prompts import role_of
from ftclient.data.reader import pointer
from ftclient.data.report import Issue

_ROUNDS = 50
"""One mend can uncover the next problem (a renamed key shows a misspelt role), and a message that is taken away moves
those after it, so the example is looked at again after each round."""

_ROLES_BY_OTHER_NAME = {
    "human": "user", "customer": "user", "client": "user", "question": "user", "usr": "user", "prompter": "user",
    "ai": "assistant", "bot": "assistant", "gpt": "assistant", "model": "assistant", "agent": "assistant",
    "chatbot": "assistant", "answer": "assistant", "chatgpt": "assistant", "sys": "system", "instruction": "system",
    "observation": "tool", "tool_response": "tool",
}  # fmt: skip

_KEYS_BY_OTHER_NAME = {
    "message": "messages", "conversation": "messages", "conversations": "messages", "from": "role", "speaker": "role",
    "author": "role", "text": "content", "value": "content", "body": "content", "chosen": "preferred_output",
    "rejected": "non_preferred_output", "tool_call": "tool_calls",
}  # fmt: skip

_CLOSE = 0.75
_CONTROL_TOKEN = re.compile(r"<\|\w{1,40}\|>")
"""OpenAI's control tokens and those of most open models."""


class _Place(NamedTuple):
    """Where an issue points: `holder[key]`, which may be missing. `above[above_key]` is the holder."""

    above: Any
    above_key: Any
    holder: Any
    key: Any
    holder_path: str

    @property
    def value(self) -> Any:
        """What stands there."""
        return self.holder[self.key]


_Mender = Callable[[_Place, Issue], "Iterator[tuple[str, Any, Any]]"]
"""Changes the holder and yields (path, before, after) for each change; yields nothing where it cannot help."""

_GONE = object()


def issues_of(example: Any, *, line: int, method: Method, limits: Limits) -> list[Issue]:
    """The issues of one example, but for its length."""
    found = Findings(line, too_long=limits.too_long)
    if isinstance(example, dict):
        check_example(found, example, method=method, limits=limits)
    else:
        found.add("not_an_object", "", "The line is no object.")
    return found.issues


def mend(
    example: Any,
    *,
    line: int = 1,
    method: Method = "supervised",
    limits: Limits = OPENAI_LIMITS,
    codes: Container[str] | None = None,
) -> tuple[Any, list[Change], list[Issue]]:
    """Mend an example as far as that is possible.

    Args:
        example: Any JSON value; it is not changed.
        line: Its line, for the changes.
        method: What the example is for.
        limits: What the host accepts.
        codes: The issues to mend; None mends all it can.

    Returns:
        The mended example, what was changed (the step of a change is the code of the issue), and the errors that
        are left: what only its author can put right.
    """
    example = deepcopy(example)
    changes: list[Change] = []
    for _ in range(_ROUNDS):
        errors = [i for i in issues_of(example, line=line, method=method, limits=limits) if i.severity == "error"]
        wanted = [issue for issue in errors if codes is None or issue.code in codes]
        example, made = _mend_once(example, wanted, line)
        changes += made
        if not made:
            return example, changes, errors
    errors = [i for i in issues_of(example, line=line, method=method, limits=limits) if i.severity == "error"]
    return example, changes, errors


def parse_loosely(text: str) -> Any:
    """Read a line that is nearly JSON: written as a Python literal, or with a comma too many.

    Raises:
        ValueError: It is neither.
    """
    if len(text) > 1_000_000 or text.count("{") + text.count("[") > 2_000:  # noqa: PLR2004  the parser's own stack is finite
        raise ValueError("too long to be guessed at")
    plain = text.strip().rstrip(",")
    try:
        return json.loads(plain, parse_constant=_refuse)
    except ValueError:
        pass
    try:
        value = ast.literal_eval(plain)
        return json.loads(json.dumps(value, allow_nan=False))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("neither JSON nor a Python literal") from None


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _mend_once(example: Any, errors: list[Issue], line: int) -> tuple[Any, list[Change]]:
    box = {"line": example}
    changes = []
    for issue in errors:
        mender = _MENDERS.get(issue.code)
        place = _find(box, issue.path)
        if mender is None or place is None:
            continue
        for path, before, after in mender(place, issue):
            text = None if after is _GONE else shown(after)
            changes.append(Change(line, path, issue.code, shown(before), text))
        if changes and issue.code in _MOVING:
            break
    return box["line"], changes


def _find(box: dict[str, Any], path: str) -> _Place | None:
    place = _Place(None, None, box, "line", "")
    at = ""
    for segment in path.split("/")[1:]:
        if not _has(place.holder, place.key):
            return None
        holder = place.value
        key = _key_of(holder, segment)
        if key is None:
            return None
        place = _Place(place.holder, place.key, holder, key, at)
        at = f"{at}/{segment}"
    return place


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else isinstance(holder, list) and key < len(holder)


def _key_of(holder: Any, segment: str) -> Any:
    if isinstance(holder, dict):
        plain = segment.replace("~1", "/").replace("~0", "~")
        shortened = (key for key in holder if pointer("", key)[1:] == segment)
        return plain if plain in holder else next(shortened, plain)
    return int(segment) if isinstance(holder, list) and segment.isdecimal() else None


def _unknown_key(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    """Rename a misspelt key; take away what the host refuses."""
    if not _has(place.holder, place.key):
        return
    name = _right_key(str(place.key), place.holder, issue.path)
    value = place.holder.pop(place.key)
    if name is None:
        yield issue.path, {place.key: value}, _GONE
    else:
        place.holder[name] = value
        yield issue.path, str(place.key), name


def _right_key(key: str, holder: Mapping[str, Any], path: str) -> str | None:
    allowed = _keys_at(path, holder) - holder.keys()
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    named = _KEYS_BY_OTHER_NAME.get(plain)
    if plain in allowed or named in allowed:
        return plain if plain in allowed else named
    close = get_close_matches(plain, sorted(allowed), n=1, cutoff=_CLOSE)
    return close[0] if close else None


def _keys_at(path: str, holder: Mapping[str, Any]) -> frozenset[str]:
    segments = path.split("/")[1:]
    if len(segments) == 1:
        return CHAT_KEYS | PREFERENCE_KEYS
    if segments[0] == "input" and len(segments) == 2:  # noqa: PLR2004  /input/KEY
        return INPUT_KEYS
    return MESSAGE_KEYS | KEYS_BY_ROLE.get(role_of(holder), frozenset())


def _missing_key(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    """Give a nameless key its name, where exactly that one is misspelt; a call its only type."""
    if not isinstance(place.holder, dict) or place.key in place.holder:
        return
    if place.key == "type" and "function" in place.holder:
        place.holder["type"] = "function"
        yield issue.path, "", "function"
        return
    for other in list(place.holder):
        if place.key == _right_key(str(other), {k: v for k, v in place.holder.items() if k != other}, issue.path):
            place.holder[place.key] = place.holder.pop(other)
            yield pointer(place.holder_path, str(other)), other, place.key
            return


def _role_unknown(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    if not _has(place.holder, place.key) or not isinstance(place.value, str):
        return
    before = place.value
    plain = before.strip().lower()
    close = get_close_matches(plain, sorted(ROLES), n=1, cutoff=_CLOSE)
    role = plain if plain in ROLES else _ROLES_BY_OTHER_NAME.get(plain) or (close[0] if close else None)
    if role is not None:
        place.holder[place.key] = role
        yield issue.path, before, role


def _wrong_type(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    """Write a value in the type that its key has."""
    if not _has(place.holder, place.key):
        return
    before = place.value
    after = _in_right_type(place.key, before)
    if after is not None and after is not before:
        place.holder[place.key] = after
        yield issue.path, before, after


def _in_right_type(key: Any, value: Any) -> Any:
    if key in {"content", "text", "refusal"} and isinstance(value, int | float):
        return json.dumps(value)
    if key == "content" and isinstance(value, dict) and "type" in value:
        return [value]
    if key == "weight":
        return _right_weight(value)
    if key == "arguments" and isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if key in {"messages", "tools", "tool_calls"} and isinstance(value, str):
        return _list_in(value)
    if key in {"messages", "tools", "tool_calls", "preferred_output", "non_preferred_output"} and isinstance(
        value, dict
    ):
        return [value]
    if key == "parallel_tool_calls" and isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return {"url": value} if key == "image_url" and isinstance(value, str) else None


def _right_weight(value: Any) -> int | None:
    plain = value.strip().lower() if isinstance(value, str) else value
    by_meaning: dict[Any, int] = {0: 0, 1: 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
    try:
        return by_meaning.get(plain)
    except TypeError:
        return None


def _list_in(text: str) -> Any:
    try:
        value = parse_loosely(text)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _weight_misplaced(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    if _has(place.holder, place.key):
        yield issue.path, {place.key: place.holder.pop(place.key)}, _GONE


def _content_missing(place: _Place, _issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    """Take away an instruction that says nothing. A turn without text is for its author to fill."""
    if isinstance(place.above, list) and role_of(place.holder) in {"system", "developer"}:
        yield place.holder_path, place.above.pop(place.above_key), _GONE


def _special_token(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    if not _has(place.holder, place.key) or not isinstance(place.value, str):
        return
    before = place.value
    after = before
    while _CONTROL_TOKEN.search(after):  # taking one out may join the halves of another
        after = _CONTROL_TOKEN.sub("", after)
    if after.strip() and after != before:
        place.holder[place.key] = after
        yield issue.path, before, after


def _legacy_format(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    """Turn a prompt and its completion into a chat."""
    from ftclient.data.convert.pairs import completion_to_chat

    if isinstance(place.value, dict) and {"prompt", "completion"} <= place.value.keys():
        before = place.value
        place.holder[place.key] = completion_to_chat(before)
        yield issue.path, before, place.holder[place.key]


def _not_an_object(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    """Put a bare list of messages under its key."""
    messages = place.value
    if isinstance(messages, list) and messages and all(isinstance(item, dict) and "role" in item for item in messages):
        place.holder[place.key] = {"messages": messages}
        yield issue.path, messages[0], {"messages": messages[:1]}


def _last_not(wanted: str) -> _Mender:
    def mender(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
        """Take away what follows the last message that may stand last."""
        messages, messages_path = place.above, issue.path.rsplit("/", 2)[0]
        roles = [role_of(message) for message in messages] if isinstance(messages, list) else []
        while wanted in roles and roles[-1] != wanted:
            roles.pop()
            yield f"{messages_path}/{len(roles)}", messages.pop(), _GONE

    return mender


def _arguments_not_json(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    if not _has(place.holder, place.key) or not isinstance(place.value, str):
        return
    before = place.value
    try:
        value = parse_loosely(before or "{}")
    except ValueError:
        return
    if isinstance(value, dict):
        place.holder[place.key] = json.dumps(value, ensure_ascii=False)
        yield issue.path, before, place.value


def _tools_invalid(place: _Place, issue: Issue) -> Iterator[tuple[str, Any, Any]]:
    """Wrap a bare function, as the API wants it, and name its type."""
    tool = place.holder
    if not isinstance(tool, dict):
        return
    before = dict(tool)
    if "name" in tool and "function" not in tool:
        tool.clear()
        tool["function"] = {key: value for key, value in before.items() if key != "type"}
    if isinstance(tool.get("function"), dict) and tool.get("type") != "function":
        tool["type"] = "function"
        yield issue.path, before, tool


_MENDERS: dict[str, _Mender] = {
    "unknown_key": _unknown_key,
    "missing_key": _missing_key,
    "role_unknown": _role_unknown,
    "wrong_type": _wrong_type,
    "weight_invalid": _wrong_type,
    "weight_misplaced": _weight_misplaced,
    "content_missing": _content_missing,
    "special_token": _special_token,
    "legacy_format": _legacy_format,
    "not_an_object": _not_an_object,
    "last_not_assistant": _last_not("assistant"),
    "last_not_user": _last_not("user"),
    "tool_arguments_not_json": _arguments_not_json,
    "tools_invalid": _tools_invalid,
}

_MOVING = frozenset({"content_missing", "last_not_assistant", "last_not_user"})
"""Mends that take messages away: paths of other issues may not hold any more."""

MENDABLE = frozenset(_MENDERS) | {"bom", "blank_line", "encoding", "json_syntax"}
"""Codes of issues that can be mended, often or always."""
