"""What cleaning changed: one entry a change, with line, path, before and after."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import IO, Any

EXCERPT_CHARS = 80
_CONTEXT_CHARS = 16


@dataclass(frozen=True)
class Change:
    """One change of one line."""

    line: int | None
    """Physical line of the input from 1; None for the file as a whole."""
    path: str
    """RFC 6901 pointer to what changed; "" is the whole line."""
    step: str
    """The step that did it, or the code of the issue that it mends."""
    before: str
    """An excerpt around the change, at most 80 characters; personal data and secrets are masked."""
    after: str | None
    """The same place afterwards; None: it is gone."""

    def to_json(self) -> dict[str, Any]:
        """The entry as the file of changes has it."""
        return asdict(self)


class ChangeLog:
    """Counts changes and writes them to a stream, or keeps them where there is none."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = stream
        self.by_step: Counter[str] = Counter()
        self.kept: list[Change] = []

    def extend(self, changes: Iterable[Change]) -> None:
        """Add changes."""
        for change in changes:
            self.by_step[change.step] += 1
            if self._stream is None:
                self.kept.append(change)
            else:
                self._stream.write(json.dumps(change.to_json(), ensure_ascii=False).encode() + b"\n")


def excerpts(before: str, after: str) -> tuple[str, str]:
    """Cut two versions of a text down to where they differ, with a little of what surrounds it."""
    start = _n_common(before, after)
    end = _n_common(before[start:][::-1], after[start:][::-1])
    left = max(0, start - _CONTEXT_CHARS)
    right = max(0, end - _CONTEXT_CHARS)
    return _excerpt(before, left, right), _excerpt(after, left, right)


def shown(value: Any) -> str:
    """Any JSON value as an excerpt."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _excerpt(text, 0, 0)


def _excerpt(text: str, left: int, right: int) -> str:
    cut = text[left : len(text) - right]
    cut = ("…" if left else "") + cut + ("…" if right else "")
    cut = cut if len(cut) <= EXCERPT_CHARS else cut[: EXCERPT_CHARS - 1] + "…"
    return cut.encode("utf-8", "replace").decode()


def _n_common(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
