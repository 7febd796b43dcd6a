"""Training files as examples of classification: what is read, and the label that is the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftclient.data.decoding import BadImageError
from ftclient.data.findings import type_name
from local_backend import images
from local_backend.engine.rows import invalid_line, numbered_examples
from local_backend.task import UserError


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example, as the file has it."""

    line: int
    """Its line in the file, from 1."""
    text: str
    images: tuple[bytes, ...] = ()
    """As they came: PNG, JPEG, WebP or GIF, not decoded."""
    labels: tuple[str, ...]
    """One; any number where the answer is a JSON list."""
    is_multi: bool = False
    """Whether the answer is a JSON list of labels."""
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is to be classified."""

    text: str
    images: tuple[bytes, ...] = ()


def read_examples(path: Path, *, param: str) -> Iterator[Example]:
    """Yield the examples of a chat file, one at a time.

    Raises:
        JobError: A line is no such example; names it.
    """
    for line, value in numbered_examples(path, param=param):
        yield _explained(value, line, param)


def query_of(messages: Sequence[Mapping[str, Any]]) -> Query:
    """Return what messages ask to classify: all text but the system prompt's, which says the same every time.

    Raises:
        UserError: A message has something else than text and images, or there is nothing to classify.
        BadImageError: An image is no data URL.
    """
    texts: list[str] = []
    pictures: list[bytes] = []
    for message in messages:
        if message["role"] in ("system", "developer"):
            continue
        content = message.get("content") or ""
        parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            if part["type"] == "image_url":
                pictures.append(images.from_url(part["image_url"]["url"]))
            elif part["type"] in ("text", "refusal"):
                texts.append(part.get("text") or part.get("refusal") or "")
            else:
                raise UserError(f"A classifier reads text and images, not {part['type']!r}.", param="messages")
    text = "\n".join(text for text in texts if text.strip())
    if not text and not pictures:
        raise UserError("There is nothing to classify: no user message has text or an image.", param="messages")
    return Query(text=text, images=tuple(pictures))


def labels_of(answer: str) -> tuple[tuple[str, ...], bool]:
    """Return the labels of an answer, and whether it is a JSON list of them; numbers in a list are labels as written.

    Raises:
        UserError: It is blank, or a list of something else.
    """
    text = answer.strip()
    found = _as_list(text)
    if found is None:
        if not text:
            raise UserError("The answer is blank: it must be the label, or a JSON list of labels.")
        return (text,), False
    for item in found:
        if not isinstance(item, str) or not item.strip():
            what = "a blank text" if isinstance(item, str) else type_name(item)
            raise UserError(f"Its list of labels holds {what}: each label must be a text or a number.")
    return tuple(dict.fromkeys(label.strip() for label in found)), True


def _as_list(text: str) -> list[Any] | None:
    """A JSON list with its numbers as texts; None: the text is none."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found: list[Any] = json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and its like are no JSON


def _explained(value: Mapping[str, Any], line: int, param: str) -> Example:
    try:
        return _example(value, line)
    except (UserError, BadImageError) as error:
        raise invalid_line(line, str(getattr(error, "message", error)), param) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise invalid_line(line, f"{error!s:.60} is missing or of the wrong type.", param) from error


def _example(value: Mapping[str, Any], line: int) -> Example:
    *asked, answer = value["messages"]
    if answer.get("role") != "assistant" or not isinstance(answer.get("content"), str):
        raise UserError("The last message must be an assistant message whose content is the label.")
    query = query_of(asked)
    labels, is_multi = labels_of(answer["content"])
    weight = float(answer.get("weight", 1.0))
    return Example(line=line, text=query.text, images=query.images, labels=labels, is_multi=is_multi, weight=weight)
