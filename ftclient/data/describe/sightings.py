"""What is kept of each example while a dataset is described: fingerprints and short excerpts, not the example."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ftclient.data.clean.places import text_places
from ftclient.data.describe.language import Languages
from ftclient.data.duplicates import Fingerprint, fingerprint, same_key
from ftclient.data.prompts import (
    INSTRUCTIONS,
    digest,
    example_digest,
    exchange_of,
    message_text,
    messages_of,
    role_of,
)
from ftclient.data.reader import clean_text
from ftclient.data.redact import find_personal_data, redact

EXCERPT_CHARS = 80
_KEPT_ANSWER_CHARS = 200


@dataclass(frozen=True)
class PersonalData:
    """A piece of personal data, or a secret, by place; what it is stays masked."""

    line: int
    path: str
    kind: str
    masked: str


@dataclass(frozen=True)
class Sighting:
    """One example, seen."""

    line: int
    content: int
    """Fingerprint of the whole example."""
    prompt: int
    """Fingerprint of instructions and prompt, without case, width and punctuation."""
    prompt_print: Fingerprint
    prompt_excerpt: str
    answer: str | None
    """The answer up to 200 characters; None where the example has none, or two."""
    answer_key: int
    """Fingerprint of the whole answer, without case, width and punctuation."""
    answer_shape: tuple[tuple[str, str], ...] | None
    """Keys and types of an answer that is a JSON object."""
    looks_like_json: bool
    n_chars: int
    n_turns: int
    """Messages of the user."""
    prompt_language: str
    answer_language: str
    is_refusal: bool
    is_garbled: bool
    personal_data: tuple[PersonalData, ...]


def look_at(example: Mapping[str, Any], *, line: int, languages: Languages) -> Sighting:
    """Look at one example."""
    exchange = exchange_of(example)
    prompt, answer = exchange.prompt_text, exchange.answer_text
    messages = messages_of(example)
    instructions = "\n".join(message_text(message) for message in messages if role_of(message) in INSTRUCTIONS)
    texts = list(text_places(example))
    value = _json_value(answer)
    return Sighting(
        line=line,
        content=example_digest(example),
        prompt=digest(f"{same_key(instructions)}\n\n{same_key(prompt)}"),
        prompt_print=fingerprint(prompt),
        prompt_excerpt=clean_text(" ".join(redact(prompt).split()), limit=EXCERPT_CHARS),
        answer=answer[:_KEPT_ANSWER_CHARS] if len(exchange.answers) == 1 else None,
        answer_key=digest(same_key(answer)),
        answer_shape=_shape(value),
        looks_like_json=answer.lstrip().startswith(("{", "[", "```json")),
        n_chars=sum(len(place.text) for place in texts),
        n_turns=sum(role_of(message) == "user" for message in messages),
        prompt_language=languages.of(prompt),
        answer_language=languages.of(answer if value is None else _strings(value)),
        is_refusal=is_refusal(answer) or any(bool(message.get("refusal")) for message in messages),
        is_garbled=any(is_garbled(place.text) for place in texts),
        personal_data=tuple(_personal_data(example, line)),
    )


def is_refusal(text: str) -> bool:
    """Whether an answer declines to help, judged by how such answers start in English and Japanese."""
    start = text[:200].lower().replace("\u2019", "'")
    return any(phrase in start for phrase in _REFUSALS)


def is_garbled(text: str) -> bool:
    """Whether a text was once decoded in the wrong way: `Ã©`, `â€™`, `縺`, or characters that were lost."""
    return any(sign in text for sign in _GARBLED)


_REFUSALS = (
    "i can't help with", "i cannot help with", "i can't assist", "i cannot assist", "i'm unable to", "i am unable to",
    "i'm sorry, but i can't", "i'm sorry, but i cannot", "i can't provide", "i cannot provide", "i won't be able to",
    "i must decline", "as an ai language model", "as an ai, i", "お答えできません", "お手伝いできません",
    "対応できません", "お応えできません", "回答できません", "ご提供できません", "提供することはできません",
)  # fmt: skip

_GARBLED = (
    "\ufffd", "Ã©", "Ã¨", "Ã¼", "Ã¶", "Ã¤", "Ã±", "â€™", "â€œ", "â€\x9d", "Â°", "Â£", "縺", "繧", "ã\x81", "ã\x82",
)  # fmt: skip
"""What UTF-8 becomes when it is read as Windows-1252 or Shift_JIS, and the mark of lost characters."""


def _json_value(answer: str) -> Any:
    """The object or list that an answer consists of; None if it is something else."""
    plain = answer.strip().removeprefix("```json").removesuffix("```")
    if not plain.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(plain)
    except (ValueError, RecursionError):
        return None


def _shape(value: Any) -> tuple[tuple[str, str], ...] | None:
    if not isinstance(value, dict):
        return None
    return tuple(sorted((str(key), _TYPE_NAMES.get(type(child), "null")) for key, child in value.items()))


_TYPE_NAMES = {
    str: "string", bool: "boolean", int: "number", float: "number", list: "list", dict: "object",
}  # fmt: skip


def _strings(value: Any) -> str:
    return " ".join(place.text for place in text_places(value))


def _personal_data(example: Mapping[str, Any], line: int) -> Iterator[PersonalData]:
    for place in text_places(example):
        for finding in find_personal_data(place.text):
            yield PersonalData(line, place.path, finding.kind, finding.masked)
