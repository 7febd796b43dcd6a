"""Where an example has text, and how to change a text in its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ftclient.data.reader import pointer

Rewrite = Callable[[str], str]

_NO_TEXT = frozenset(
    {"role", "name", "id", "type", "tool_call_id", "image_url", "tools", "functions", "detail", "weight"}
)
"""Keys whose values are names, addresses or declarations: changing them would break the example."""


class Place(NamedTuple):
    """A text inside an example: `holder[key]`."""

    path: str
    holder: Any
    key: str | int
    is_json: bool = False
    """The text is JSON (a call's arguments): only the strings inside it may change."""

    @property
    def text(self) -> str:
        """The text that stands there."""
        return str(self.holder[self.key])

    def rewrite(self, change: Rewrite) -> tuple[str, str] | None:
        """Put `change(text)` in the place, unless that is blank; returns both versions, or None if nothing changed."""
        before = self.text
        after = _rewrite_json(before, change) if self.is_json else change(before)
        if before == after or not after.strip():
            return None
        self.holder[self.key] = after
        return before, after


def text_places(example: Any) -> Iterator[Place]:
    """All texts of an example, of whatever format, in the order in which they stand."""
    pending: list[tuple[str, Any, Any, Any]] = [("", None, None, example)]
    while pending:
        path, holder, key, value = pending.pop()
        if isinstance(value, str):
            if holder is not None:
                yield Place(path, holder, key, is_json=key == "arguments")
        elif isinstance(value, dict):
            inner = [(pointer(path, str(k)), value, k, child) for k, child in value.items() if k not in _NO_TEXT]
            pending.extend(reversed(inner))
        elif isinstance(value, list):
            pending.extend((f"{path}/{at}", value, at, value[at]) for at in reversed(range(len(value))))


def _rewrite_json(text: str, change: Rewrite) -> str:
    try:
        value = [json.loads(text)]
    except (ValueError, RecursionError):
        return text
    if not any([place.rewrite(change) for place in text_places(value)]):  # noqa: C419  all of them must be rewritten
        return text
    return json.dumps(value[0], ensure_ascii=False)
