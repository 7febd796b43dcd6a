"""Numbers about a file, collected block by block and added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftclient.data.tokens import UNTRAINED


@dataclass
class Tally:
    """Counts that can be added."""

    counts: Counter[str] = field(default_factory=Counter)
    """lines, examples, blank_lines, images, with_images, with_tools, estimated; where a tokenizer of
    its own counts, trained_tokens."""
    formats: Counter[str] = field(default_factory=Counter)
    shapes: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """How often each sequence of roles occurs."""
    label_tokens: Counter[str] = field(default_factory=Counter)
    """Tokens of text by role, of tool declarations (`tools`) and of untrained assistant text."""
    example_tokens: Counter[int] = field(default_factory=Counter)
    """How many examples have so many tokens."""

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.counts.update(other.counts)
        self.formats.update(other.formats)
        self.shapes.update(other.shapes)
        self.label_tokens.update(other.label_tokens)
        self.example_tokens.update(other.example_tokens)

    def to_wire(self) -> list[Any]:
        """As a value for JSON, for another process."""
        shapes = [[*shape, n] for shape, n in self.shapes.items()]
        return [self.counts, self.formats, shapes, self.label_tokens, list(self.example_tokens.items())]

    @classmethod
    def from_wire(cls, values: list[Any]) -> Tally:
        """The tally that `to_wire` wrote, parsed."""
        counts, formats, shapes, label_tokens, example_tokens = values
        return cls(
            counts=Counter(counts),
            formats=Counter(formats),
            shapes=Counter({tuple(shape): n for *shape, n in shapes}),
            label_tokens=Counter(label_tokens),
            example_tokens=Counter(dict(map(tuple, example_tokens))),
        )


def summarize(tally: Tally, *, n_bytes: int, encoding: str | None) -> dict[str, Any]:
    """The `stats` of a report. `encoding` names what counted the tokens; None if nothing did."""
    roles: Counter[str] = Counter()
    n_messages: Counter[int] = Counter()
    without_system = 0
    for shape, n in tally.shapes.items():
        n_messages[len(shape)] += n
        without_system += 0 if {"system", "developer"} & set(shape) else n
        for role in shape:
            roles[role] += n
    counts = tally.counts
    return {
        "n_bytes": n_bytes,
        "n_lines": counts["lines"],
        "n_blank_lines": counts["blank_lines"],
        "formats": dict(tally.formats.most_common()),
        "messages": {"total": roles.total(), "by_role": dict(roles.most_common()), "per_example": spread(n_messages)},
        "n_without_system": without_system,
        "n_with_tools": counts["with_tools"],
        "n_with_images": counts["with_images"],
        "n_images": counts["images"],
        "tokens": None if encoding is None else _tokens(tally, encoding),
    }


def _tokens(tally: Tally, encoding: str) -> dict[str, Any]:
    total = sum(tokens * n for tokens, n in tally.example_tokens.items())
    by_label = {label: n for label, n in tally.label_tokens.most_common() if label != UNTRAINED}
    by_label["assistant"] = tally.label_tokens["assistant"] + tally.label_tokens[UNTRAINED]
    return {
        "encoding": encoding,
        "total": total,
        "trained": tally.counts["trained_tokens"] + tally.label_tokens["assistant"],
        "by_role": by_label if tally.label_tokens else {},
        "per_example": spread(tally.example_tokens),
        "is_estimate": tally.counts["estimated"] > 0,
        "n_estimated_examples": tally.counts["estimated"],
        "beyond_context": {
            "n_examples": tally.counts["cut_examples"],
            "total": tally.counts["cut_tokens"],
            "trained": tally.counts["cut_trained_tokens"],
        },
    }


def spread(histogram: Mapping[int, int]) -> dict[str, float]:
    """Least, mean, median, 95th percentile and most of a histogram of values."""
    n_values = sum(histogram.values())
    if not n_values:
        return {"min": 0, "mean": 0.0, "median": 0, "p95": 0, "max": 0}
    values = sorted(histogram)
    total = sum(value * n for value, n in histogram.items())
    return {
        "min": values[0],
        "mean": round(total / n_values, 2),
        "median": _quantile(histogram, values, n_values * 0.5),
        "p95": _quantile(histogram, values, n_values * 0.95),
        "max": values[-1],
    }


def _quantile(histogram: Mapping[int, int], values: list[int], rank: float) -> int:
    """The least value that `rank` values do not exceed."""
    n_so_far = 0
    for value in values:
        n_so_far += histogram[value]
        if n_so_far >= rank:
            return value
    return values[-1]
