"""Rules for messages: keys, roles, content, weights and the order of roles."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ftclient.data.chat import KEYS_BY_ROLE, MESSAGE_KEYS, ROLES
from ftclient.data.check_images import ImageRules
from ftclient.data.findings import Findings, quoted
from ftclient.data.limits import Limits
from ftclient.data.reader import pointer

_TEXT_ELSEWHERE = ("tool_calls", "function_call", "refusal")
"""An assistant message with one of these needs no content."""


def check_messages(found: Findings, messages: Any, path: str, *, limits: Limits, images: ImageRules) -> None:
    """Check every message of a list, each for itself."""
    if not isinstance(messages, list):
        found.wrong_type(path, messages, "a list of messages")
        return
    if not messages:
        found.add("empty_messages", path, "There are no messages.")
    for i, message in enumerate(messages):
        check_message(found, message, f"{path}/{i}", limits=limits, images=images)


def check_message(found: Findings, message: Any, path: str, *, limits: Limits, images: ImageRules) -> None:
    """Check one message: its keys, role, content, name, weight."""
    if not isinstance(message, dict):
        found.wrong_type(path, message, "an object with role and content")
        return
    role = _check_role(found, message, path)
    _check_keys(found, message, path, role)
    _check_content(found, message, path, role, images)
    for key in ("name", "refusal"):
        if not isinstance(message.get(key, ""), str) and not (key == "refusal" and message[key] is None):
            found.wrong_type(f"{path}/{key}", message[key], "a string")
    if "weight" in message:
        _check_weight(found, message["weight"], f"{path}/weight", role, limits)
    if role == "function" and "name" not in message:
        found.missing(path, "name")


def _check_role(found: Findings, message: Mapping[str, Any], path: str) -> str | None:
    """Check the role and return it if it is a known one."""
    if "role" not in message:
        n = int(path.rpartition("/")[2]) + 1
        found.missing(path, "role", host=found.in_example(f", message {n} Discriminator 'role' is missing in value"))
        return None
    role = message["role"]
    if not isinstance(role, str):
        found.wrong_type(f"{path}/role", role, "a string")
        return None
    if role not in ROLES:
        found.add("role_unknown", f"{path}/role", f"{quoted(role)} is no role.")
        return None
    return role


def _check_keys(found: Findings, message: Mapping[str, Any], path: str, role: str | None) -> None:
    allowed = KEYS_BY_ROLE.get(role, frozenset()) if role else frozenset().union(*KEYS_BY_ROLE.values())
    for key in message.keys() - MESSAGE_KEYS - allowed:
        owner = next((owner for owner, keys in KEYS_BY_ROLE.items() if key in keys), None)
        what = f"Only {owner} messages may have `{key}`." if owner else f"A message has no key {quoted(key)}."
        found.add("unknown_key", pointer(path, key), what, host=found.in_example(f" contains an extra {quoted(key)}."))


def _check_content(
    found: Findings, message: Mapping[str, Any], path: str, role: str | None, images: ImageRules
) -> None:
    is_optional = role == "assistant" and any(message.get(key) for key in _TEXT_ELSEWHERE)
    content = message.get("content")
    place = f"{path}/content"
    if content in (None, "", []):
        if is_optional:
            return
        if "content" not in message:
            found.missing(path, "content")
        else:
            found.add("content_missing", place, "There is no text.")
    elif isinstance(content, str):
        if content.isspace():
            found.add("content_blank", place, "The text is only white space.")
    elif isinstance(content, list):
        _check_parts(found, content, place, role, images)
    else:
        found.wrong_type(place, content, "a string or a list of parts")


def _check_parts(found: Findings, parts: list[Any], path: str, role: str | None, images: ImageRules) -> None:
    for i, part in enumerate(parts):
        place = f"{path}/{i}"
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict):
            found.wrong_type(place, part, "an object with a type")
        elif "type" not in part:
            found.missing(place, "type")
        elif kind == "image_url":
            images.check(found, part, place, role)
        elif kind == "text" or (kind == "refusal" and role == "assistant"):
            _check_text_part(found, part, place, str(kind))
        else:
            found.add("wrong_type", f"{place}/type", f"A part of this message cannot be {quoted(kind)}.")


def _check_text_part(found: Findings, part: Mapping[str, Any], path: str, key: str) -> None:
    if key not in part:
        found.missing(path, key)
        return
    text, place = part[key], f"{path}/{key}"
    if text is None or text == "":
        found.add("content_missing", place, "There is no text.")
    elif not isinstance(text, str):
        found.wrong_type(place, text, "a string")
    elif text.isspace():
        found.add("content_blank", place, "The text is only white space.")


def check_output(found: Findings, message: Any, path: str, *, limits: Limits, images: ImageRules) -> None:
    """Check one answer of a preference pair, which is compared whole with the other: its weight can only be 1."""
    check_message(found, message, path, limits=limits, images=images)
    if not isinstance(message, dict) or message.get("role", "assistant") != "assistant":
        return
    weight = message.get("weight", 1)
    if _is_weight(weight, limits) and weight != 1:
        what = f"The weight is {quoted(weight)}; the answers of a pair always count whole."
        found.add("weight_invalid", f"{path}/weight", what, hint="Delete the weight, or drop the pair.")


def _check_weight(found: Findings, weight: Any, path: str, role: str | None, limits: Limits) -> None:
    if role not in {"assistant", None}:
        found.add("weight_misplaced", path, f"A {role} message has a weight.")
    elif _is_weight(weight, limits):
        return
    elif limits.weights == "binary":
        found.add("weight_invalid", path, f"The weight is {quoted(weight)}; it must be the number 0 or 1.")
    else:
        hint = "Use a finite number from 0 on; 0 does not train this message."
        found.add("weight_invalid", path, f"The weight is {quoted(weight)}; it must be a number from 0.", hint=hint)


def _is_weight(weight: Any, limits: Limits) -> bool:
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        return False
    if limits.weights == "binary":
        return isinstance(weight, int) and weight in {0, 1}
    return 0 <= weight <= sys.float_info.max  # also where no float can hold an integer


def check_trained(found: Findings, messages: Any, path: str) -> None:
    """Check that a supervised example ends in an assistant message and that something of it is trained."""
    known = [message for message in dicts(messages) if isinstance(message.get("role"), str)]
    assistants = [message for message in known if message["role"] == "assistant"]
    if not known:
        return
    if not assistants:
        found.add("assistant_missing", path, "There is no assistant message, so there is nothing to learn.")
        return
    if known[-1] is messages[-1] and known[-1]["role"] != "assistant":
        place = f"{path}/{len(messages) - 1}/role"
        found.add("last_not_assistant", place, f"The last message is from {quoted(known[-1]['role'])}.")
    if all(is_zero(message.get("weight")) for message in assistants):
        found.add("nothing_trained", path, "Every assistant message has weight 0.")


def check_last_is_user(found: Findings, messages: Any, path: str) -> None:
    """Check that a reinforcement prompt ends in a user message."""
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        role = messages[-1].get("role")
        if isinstance(role, str) and role != "user":
            found.add("last_not_user", f"{path}/{len(messages) - 1}/role", f"The last message is from {quoted(role)}.")


def is_zero(weight: Any) -> bool:
    """Whether a weight is the number 0."""
    return isinstance(weight, int | float) and not isinstance(weight, bool) and weight == 0


def dicts(items: Any) -> Iterator[dict[str, Any]]:
    """The objects of what should be a list of objects."""
    return (item for item in items if isinstance(item, dict)) if isinstance(items, list) else iter(())
