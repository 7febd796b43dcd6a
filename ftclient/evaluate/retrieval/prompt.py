"""Questions with the passages that were found for them, and the citations in answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftclient.evaluate.questions import Message, text_of
from ftclient.evaluate.retrieval.index import Hit

_INSTRUCTION = (
    "Answer from the numbered passages alone and cite the one that you used by its number in brackets, like [1]. "
    "If none of them answers the question, say so."
)
_CITATION = re.compile(r"\[(\d{1,3})\]")


def with_passages(messages: Sequence[Message], hits: Sequence[Hit]) -> list[Mapping[str, Any]]:
    """Return the messages with passages before the last question; without hits, unchanged."""
    places = [place for place, message in enumerate(messages) if message.get("role") == "user"]
    if not hits or not places:
        return list(messages)
    last = messages[places[-1]]
    shown = "\n\n".join(f"[{number}] {hit.passage.searched}" for number, hit in enumerate(hits, start=1))
    content = f"{_INSTRUCTION}\n\n{shown}\n\nQuestion: {text_of(last.get('content'))}"
    return [*messages[: places[-1]], {**last, "content": content}, *messages[places[-1] + 1 :]]


def cited(answer: str, hits: Sequence[Hit]) -> list[Hit]:
    """Return the passages that an answer cites, in its order; numbers of no passage are passed over."""
    numbers = dict.fromkeys(int(number) for number in _CITATION.findall(answer))
    return [hits[number - 1] for number in numbers if 1 <= number <= len(hits)]


def without_citations(answer: str) -> str:
    """Return an answer without its `[1]`s, to compare it with one that never had any."""
    return re.sub(r"\s*\[\d{1,3}\]", "", answer).strip()
