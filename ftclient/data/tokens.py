"""Token counts of examples by OpenAI's published rules.

Chat: 3 a message, the role, the content, and with a `name` its text and 1; 3 more an example. Tools: what OpenAI's
cookbook gives for the gpt-4o and gpt-4 families ("How to count tokens with tiktoken"). Images: 85 at low detail, else
85 and 170 a tile of 512 x 512 pixels after scaling into 2048 x 2048 and then to a shorter side of 768 (gpt-4o).
Nothing is published for tool calls, preference pairs and images of unknown size: those counts are estimates and say so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from ftclient.data.check_messages import dicts, is_zero
from ftclient.data.images import BadImageUrlError, decode_data_url, inspect_image

DEFAULT_ENCODING = "o200k_base"

_ENCODINGS = (
    ("gpt-4o", "o200k_base"),
    ("gpt-4.1", "o200k_base"),
    ("gpt-4.5", "o200k_base"),
    ("gpt-5", "o200k_base"),
    ("chatgpt-4o", "o200k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4-mini", "o200k_base"),
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5", "cl100k_base"),
    ("gpt-35", "cl100k_base"),
    ("davinci-002", "cl100k_base"),
    ("babbage-002", "cl100k_base"),
)
"""Encoding by prefix of the model's name, first match wins (tiktoken's table, cut to models that were ever tuned)."""

_PER_MESSAGE, _PER_NAME, _PER_EXAMPLE, _PER_ROLE = 3, 1, 3, 1
_PER_CALL = 3
"""A guess: about what wraps a message."""

_IMAGE_TOKENS, _TILE_TOKENS, _TILE_PX, _LONG_PX, _SHORT_PX = 85, 170, 512, 2048, 768
_UNKNOWN_IMAGE_TOKENS = _IMAGE_TOKENS + 4 * _TILE_TOKENS
"""An image of 1024 x 1024 at high detail, taken where the size is not known."""

_FUNCTION_TOKENS = {"o200k_base": 7, "cl100k_base": 10}
_PROPERTIES_TOKENS, _PROPERTY_TOKENS, _ENUM_TOKENS, _ENUM_ITEM_TOKENS, _TOOLS_END_TOKENS = 3, 3, -3, 3, 12
_CACHED_CHARS = 50_000

UNTRAINED = "assistant:0"
"""Label of assistant text that has weight 0."""


def encoding_for(model: str | None) -> str | None:
    """The tiktoken encoding of an OpenAI model (also `ft:...`); o200k for None; None for models of other makers."""
    if model is None:
        return DEFAULT_ENCODING
    name = model.removeprefix("ft:")
    return next((encoding for prefix, encoding in _ENCODINGS if name.startswith(prefix)), None)


class TokenCount(NamedTuple):
    """Tokens of one example."""

    total: int
    trained: int
    """Tokens of assistant text that is trained on; what wraps the messages is not in it."""
    is_estimate: bool


@dataclass
class Parts:
    """An example taken apart for counting: texts by label, and tokens that do not depend on text."""

    labels: list[str] = field(default_factory=list)
    """A role, `tools`, or UNTRAINED for each text."""
    texts: list[str] = field(default_factory=list)
    fixed_tokens: int = 0
    is_estimate: bool = False
    n_images: int = 0
    n_tools: int = 0
    roles: list[str] = field(default_factory=list)
    """The role of every message."""

    def add(self, label: str, text: Any) -> None:
        """Add a text; anything but a string is left out (the check reports it)."""
        if isinstance(text, str) and text:
            self.labels.append(label)
            self.texts.append(text)


def count_example(
    example: Mapping[str, Any], encoding_name: str = DEFAULT_ENCODING, *, method: str = "supervised"
) -> TokenCount:
    """Count the tokens of one example.

    Raises:
        LookupError: The vocabulary cannot be had (offline, and not in tiktoken's cache).
    """
    from ftclient.data.text_counter import text_counter

    counter = text_counter(encoding_name)
    if counter is None:
        raise LookupError(f"The vocabulary {encoding_name} can neither be downloaded nor found in tiktoken's cache.")
    parts = parts_of(example, method=method, encoding_name=encoding_name)
    counts = counter.count(parts.texts)
    trained = sum(n for label, n in zip(parts.labels, counts, strict=True) if label == "assistant")
    return TokenCount(sum(counts) + parts.fixed_tokens, trained, parts.is_estimate)


def parts_of(example: Any, *, method: str, encoding_name: str = DEFAULT_ENCODING) -> Parts:
    """Take an example apart; any JSON value will do, what is not understood is left out."""
    parts = Parts(fixed_tokens=_PER_EXAMPLE)
    if not isinstance(example, dict):
        return parts
    prompt: Any = example
    if method == "dpo":
        parts.is_estimate = True
        prompt = example.get("input")
        for output in (example.get("preferred_output"), example.get("non_preferred_output")):
            _add_messages(parts, output)
    if isinstance(prompt, dict):
        _add_messages(parts, prompt.get("messages"), is_trained=method == "supervised")
        _add_tools(parts, prompt, encoding_name)
    return parts


def _add_messages(parts: Parts, messages: Any, *, is_trained: bool = True) -> None:
    for message in dicts(messages):
        role = message.get("role")
        role = role if isinstance(role, str) else "unknown"
        label = UNTRAINED if role == "assistant" and (not is_trained or is_zero(message.get("weight"))) else role
        parts.roles.append(role)
        parts.fixed_tokens += _PER_MESSAGE + _PER_ROLE
        if isinstance(message.get("name"), str):
            parts.fixed_tokens += _PER_NAME
            parts.add(label, message["name"])
        _add_content(parts, message.get("content"), label)
        parts.add(label, message.get("refusal"))
        _add_calls(parts, message, label)


def _add_content(parts: Parts, content: Any, label: str) -> None:
    parts.add(label, content)
    for part in dicts(content):
        parts.add(label, part.get("text"))
        parts.add(label, part.get("refusal"))
        if part.get("type") == "image_url":
            _add_image(parts, part.get("image_url"))


def _add_image(parts: Parts, image: Any) -> None:
    parts.n_images += 1
    tokens, is_estimate = _image_tokens(image) if isinstance(image, dict) else (0, True)
    parts.fixed_tokens += tokens
    parts.is_estimate |= is_estimate


def _image_tokens(image: Mapping[str, Any]) -> tuple[int, bool]:
    """Tokens of an image, and whether that is an estimate."""
    if image.get("detail") == "low":
        return _IMAGE_TOKENS, False
    url = image.get("url")
    if not isinstance(url, str) or url[:5].lower() != "data:":
        return _UNKNOWN_IMAGE_TOKENS, True
    try:
        seen = inspect_image(decode_data_url(url))
    except BadImageUrlError:
        return 0, True
    if not seen.width_px or not seen.height_px:
        return _UNKNOWN_IMAGE_TOKENS, True
    return image_tokens(seen.width_px, seen.height_px), image.get("detail") != "high"


def image_tokens(width_px: int, height_px: int) -> int:
    """Tokens of an image at high detail in the gpt-4o family."""
    scale = min(1.0, _LONG_PX / max(width_px, height_px))
    scale *= min(1.0, _SHORT_PX / (min(width_px, height_px) * scale))
    tiles = math.ceil(round(width_px * scale, 6) / _TILE_PX) * math.ceil(round(height_px * scale, 6) / _TILE_PX)
    return _IMAGE_TOKENS + _TILE_TOKENS * tiles


def _add_calls(parts: Parts, message: Mapping[str, Any], label: str) -> None:
    calls = [call.get("function") for call in dicts(message.get("tool_calls"))]
    for function in [*calls, message.get("function_call")]:
        if isinstance(function, dict):
            parts.fixed_tokens += _PER_CALL
            parts.is_estimate = True
            parts.add(label, function.get("name"))
            parts.add(label, function.get("arguments"))


def _add_tools(parts: Parts, example: Mapping[str, Any], encoding_name: str) -> None:
    functions = [tool.get("function") for tool in dicts(example.get("tools"))]
    functions += dicts(example.get("functions"))
    if not functions:
        return
    text = json.dumps(functions)
    fixed, texts = (_tool_parts if len(text) < _CACHED_CHARS else _take_tools_apart)(text)
    parts.n_tools += len(functions)
    parts.fixed_tokens += fixed + len(functions) * _FUNCTION_TOKENS.get(encoding_name, _FUNCTION_TOKENS["o200k_base"])
    for line in texts:
        parts.add("tools", line)


@lru_cache(maxsize=128)
def _tool_parts(functions: str) -> tuple[int, Sequence[str]]:
    return _take_tools_apart(functions)


def _take_tools_apart(functions: str) -> tuple[int, Sequence[str]]:
    fixed = _TOOLS_END_TOKENS
    texts: list[str] = []
    for function in dicts(json.loads(functions)):
        texts.append(f"{function.get('name', '')}:{_without_stop(function.get('description'))}")
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        if not isinstance(properties, dict) or not properties:
            continue
        fixed += _PROPERTIES_TOKENS + _PROPERTY_TOKENS * len(properties)
        for key, spec in properties.items():
            fixed += _add_property(texts, key, spec if isinstance(spec, dict) else {})
    return fixed, texts


def _add_property(texts: list[str], key: str, spec: Mapping[str, Any]) -> int:
    """Add a property's texts; returns its fixed tokens beside _PROPERTY_TOKENS."""
    texts.append(f"{key}:{spec.get('type', '')}:{_without_stop(spec.get('description'))}")
    choices = spec.get("enum")
    if not isinstance(choices, list):
        return 0
    texts.extend(str(choice) for choice in choices)
    return _ENUM_TOKENS + _ENUM_ITEM_TOKENS * len(choices)


def _without_stop(description: Any) -> str:
    return description.removesuffix(".") if isinstance(description, str) else ""
