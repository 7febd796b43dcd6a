"""The rules of a whole example, by method: which keys it has and what its conversation must be like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ftclient.data.chat import CHAT_KEYS, INPUT_KEYS, PREFERENCE_KEYS, Format, format_of
from ftclient.data.check_calls import check_calls
from ftclient.data.check_images import ImageRules
from ftclient.data.check_messages import check_last_is_user, check_messages, check_output, check_trained
from ftclient.data.check_tools import check_tools
from ftclient.data.findings import Findings, quoted
from ftclient.data.limits import Limits, Method
from ftclient.data.reader import clean_text, pointer, walk_strings

_NO_FORMAT = "Unexpected file format, expected either prompt/completion pairs or chat messages."


def check_example(found: Findings, example: Mapping[str, Any], *, method: Method, limits: Limits) -> Format:
    """Check one example by the rules of a method; returns the format it seems to be in."""
    seen = format_of(example)
    if seen == "completion":
        found.add("legacy_format", "", "This is a prompt/completion pair; chat models are trained on messages.")
    elif method == "dpo":
        _check_preference(found, example, seen, limits)
    elif seen == "preference":
        hint = "This is a preference pair: use the method dpo."
        found.missing("", "messages", host=found.in_example(" is missing key 'messages'"), hint=hint)
    else:
        _check_chat(found, example, method, limits)
    check_special_tokens(found, example, limits)
    return seen


def _check_chat(found: Findings, example: Mapping[str, Any], method: Method, limits: Limits) -> None:
    if method == "supervised":
        _check_keys(found, example, CHAT_KEYS, "")
    if "messages" not in example:
        found.missing("", "messages", host=_NO_FORMAT)
        check_tools(found, example, "")
    else:
        _check_conversation(found, example, "", ImageRules(limits, are_allowed=True), limits)
        if method == "supervised":
            check_trained(found, example["messages"], "/messages")
        else:
            check_last_is_user(found, example["messages"], "/messages")


def _check_conversation(
    found: Findings, example: Mapping[str, Any], path: str, images: ImageRules, limits: Limits
) -> Mapping[str, str | None]:
    """Check tools and messages; returns the declared functions."""
    schemas = check_tools(found, example, path)
    messages = example["messages"]
    check_messages(found, messages, f"{path}/messages", limits=limits, images=images)
    check_calls(found, messages, f"{path}/messages", schemas)
    return schemas


def _check_keys(found: Findings, example: Mapping[str, Any], allowed: frozenset[str], path: str) -> None:
    for key in example:
        if key not in allowed:
            what = f"An example has no key {quoted(key)}."
            host = found.in_example(f" contains an extra {quoted(key)}.")
            found.add("unknown_key", pointer(path, key), what, host=host)


def _check_preference(found: Findings, example: Mapping[str, Any], seen: Format, limits: Limits) -> None:
    if seen == "chat":
        host = found.in_example(" is missing key 'input'")
        found.missing("", "input", host=host, hint="This is a chat example: use the method supervised.")
        return
    _check_keys(found, example, PREFERENCE_KEYS, "")
    images = ImageRules(limits, are_allowed=False)
    schemas: Mapping[str, str | None] = {}
    if "input" in example:
        schemas = _check_input(found, example["input"], images, limits)
    for key in ("input", "preferred_output", "non_preferred_output"):
        if key not in example:
            found.missing("", key, host=found.in_example(f" is missing key '{key}'"))
        elif key != "input":
            _check_output(found, example[key], f"/{key}", images, limits)
            check_calls(found, example[key], f"/{key}", schemas)
    _check_difference(found, example)


def _check_input(found: Findings, prompt: Any, images: ImageRules, limits: Limits) -> Mapping[str, str | None]:
    """Check the prompt of a pair; returns the functions that it declares."""
    if not isinstance(prompt, dict):
        found.wrong_type("/input", prompt, "an object with messages")
        return {}
    _check_keys(found, prompt, INPUT_KEYS, "/input")
    if "messages" in prompt:
        return _check_conversation(found, prompt, "/input", images, limits)
    found.missing("/input", "messages")
    return check_tools(found, prompt, "/input")


def _check_output(found: Findings, output: Any, path: str, images: ImageRules, limits: Limits) -> None:
    if not isinstance(output, list):
        found.wrong_type(path, output, "a list of one assistant message")
        return
    for i, message in enumerate(output):
        check_output(found, message, f"{path}/{i}", limits=limits, images=images)
    if len(output) != 1:
        found.add("preference_not_single_assistant", path, f"The output has {len(output)} messages, not one.")
    elif isinstance(output[0], dict) and output[0].get("role", "assistant") != "assistant":
        what = f"The output is a message from {quoted(output[0]['role'])}."
        found.add("preference_not_single_assistant", f"{path}/0/role", what)


def _check_difference(found: Findings, example: Mapping[str, Any]) -> None:
    better, worse = example.get("preferred_output"), example.get("non_preferred_output")
    if better and worse and _canonical(better) == _canonical(worse):
        found.add("preference_identical", "/non_preferred_output", "Both outputs say the same.")


def _canonical(output: Any) -> str:
    """An output by value: order of keys, nulls, weights and the two ways of writing a text do not matter."""
    return json.dumps([_plain(item) for item in output] if isinstance(output, list) else output, sort_keys=True)


def _plain(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    kept = {key: value for key, value in message.items() if value is not None and key != "weight"}
    parts = kept.get("content")
    if isinstance(parts, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        kept["content"] = "".join(str(part.get("text", "")) for part in parts)
    return kept


def check_special_tokens(found: Findings, example: Mapping[str, Any], limits: Limits) -> None:
    """Find control tokens in any text of the example, the declarations of tools included."""
    if not limits.special_tokens:
        return
    seen_by_model = {key: value for key, value in example.items() if key in CHAT_KEYS | PREFERENCE_KEYS}
    for path, text in walk_strings(seen_by_model):
        for token in limits.special_tokens:
            if token in text:
                shown = clean_text(token)
                host = found.in_example(f" message contains an invalid token: {shown}.")
                found.add("special_token", path, f"The text contains the control token {shown}.", host=host)
