"""What an example asks and what it answers, as plain text; for finding duplicates, splitting and describing.

All functions take any JSON object, valid example or not, and never raise because of its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

INSTRUCTIONS = frozenset({"system", "developer"})
"""Roles of messages that are written once for many examples; they say nothing about which examples are alike."""


class Exchange(NamedTuple):
    """An example cut into what the model sees and what it is to say."""

    prompt: list[Any]
    """The messages before the answer, without instructions."""
    answers: list[Any]
    """The last assistant message; for a preference pair the better and the worse one."""

    @property
    def prompt_text(self) -> str:
        """The texts of the prompt, one a line."""
        return "\n".join(filter(None, map(message_text, self.prompt)))

    @property
    def answer_text(self) -> str:
        """The text of the answers, one a line."""
        return "\n".join(filter(None, map(message_text, self.answers)))


def exchange_of(example: Any) -> Exchange:
    """Cut an example of any format into prompt and answers."""
    if not isinstance(example, Mapping):
        return Exchange([example], [])
    if isinstance(example.get("messages"), list):
        return _chat(example["messages"])
    if "preferred_output" in example or "non_preferred_output" in example:
        given = example.get("input")
        messages = given.get("messages") if isinstance(given, Mapping) else None
        outputs = [*_listed(example.get("preferred_output")), *_listed(example.get("non_preferred_output"))]
        return Exchange(_asked(_listed(messages)), outputs)
    if "prompt" in example:
        return Exchange([example["prompt"]], [example.get("completion")])
    return Exchange([dict(example)], [])


def messages_of(example: Any) -> list[dict[str, Any]]:
    """All messages of an example that are objects, in order; the better and the worse answer come last."""
    if not isinstance(example, Mapping):
        return []
    given = example.get("input")
    found = [*_listed(example.get("messages")), *_listed(given.get("messages") if isinstance(given, Mapping) else None)]
    found += [*_listed(example.get("preferred_output")), *_listed(example.get("non_preferred_output"))]
    return [message for message in found if isinstance(message, dict)]


def role_of(message: Any) -> str:
    """The role of a message, or "" where it has none."""
    role = message.get("role") if isinstance(message, Mapping) else None
    return role if isinstance(role, str) else ""


def message_text(message: Any) -> str:
    """Everything in a message that was written: text, refusal, calls; an image counts as the hash of its URL."""
    if not isinstance(message, Mapping):
        return message if isinstance(message, str) else _json(message)
    return "\n".join(filter(None, _texts(message)))


def digest(text: str) -> int:
    """A 64-bit fingerprint of a text, the same in every process."""
    hashed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "big")


def example_digest(example: Any) -> int:
    """A 64-bit fingerprint of an example that does not depend on the order of its keys."""
    return digest(_json(example))


def _chat(messages: list[Any]) -> Exchange:
    if messages and role_of(messages[-1]) == "assistant":
        return Exchange(_asked(messages[:-1]), messages[-1:])
    return Exchange(_asked(messages), [])


def _asked(messages: list[Any]) -> list[Any]:
    return [message for message in messages if role_of(message) not in INSTRUCTIONS]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, list):
        yield from map(_part_text, content)
    elif content is not None:
        yield content if isinstance(content, str) else _json(content)
    for key in ("refusal", "tool_calls", "function_call"):
        value = message.get(key)
        if value:
            yield value if isinstance(value, str) else _json(_without_ids(value))


def _part_text(part: Any) -> str:
    if not isinstance(part, Mapping):
        return part if isinstance(part, str) else _json(part)
    image = part.get("image_url")
    if image is not None:
        url = image.get("url") if isinstance(image, Mapping) else image
        return f"image{digest(_json(url)):x}"
    return next((part[key] for key in ("text", "refusal") if isinstance(part.get(key), str)), "")


def _without_ids(calls: Any) -> Any:
    """Tool calls without their ids, which are random and make equal calls look different."""
    if not isinstance(calls, list):
        return calls
    return [{k: v for k, v in call.items() if k != "id"} if isinstance(call, Mapping) else call for call in calls]


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    except (RecursionError, TypeError, ValueError):
        return repr(type(value))
