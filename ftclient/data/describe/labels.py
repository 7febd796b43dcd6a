"""Answers that are labels, or JSON objects whose fields are: how they are balanced, and who they are tied to."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from ftclient.data.describe.language import UNKNOWN, mix
from ftclient.data.describe.sightings import Sighting
from ftclient.data.redact import redact
from ftclient.data.split import label_variants, labels_of

_RARE_COUNT = 10
_RARE_SHARE = 0.2
"""A label is rare below ten examples or a fifth of what an even share would be."""
_SKEW_LEAST = 8
_OBJECT_SHARE = 0.5


def label_sets(seen: Sequence[Sighting]) -> list[dict[str, Any]]:
    """The labels of a dataset: one set where answers are labels, one for each field where answers are JSON objects.

    `field` is the key of the field, or None. `balance` is the entropy over its maximum: 1.0 is even. `variants` are
    labels that differ in case, width or punctuation only; they count as one, under their most frequent spelling.
    `skewed` are labels that occur with prompts of one language only while the dataset has several.
    """
    return [_described(seen, field, found) for field, found in _found(seen)]


def _found(seen: Sequence[Sighting]) -> Iterator[tuple[str | None, list[str | None]]]:
    """Field, and the label of each example; only where they are labels."""
    keys = Counter(key for one in seen for key, _ in one.answer_shape or ())
    if sum(one.answer_shape is not None for one in seen) < _OBJECT_SHARE * max(1, len(seen)):
        # A short answer with personal data in it would pass for a label and be printed.
        found = labels_of([redact(one.answer.strip()) if one.answer else None for one in seen])
        if any(label is not None for label in found):
            yield None, found
        return
    objects = [(at, _object(one)) for at, one in enumerate(seen) if one.answer_shape is not None]
    for key in sorted(keys):
        values = {at: _as_label(value[key]) for at, value in objects if key in value}
        labels = dict(zip(values, labels_of(list(values.values())), strict=True))
        if any(label is not None for label in labels.values()):
            yield key, [labels.get(at) for at in range(len(seen))]


def _object(one: Sighting) -> dict[str, Any]:
    """The answer's object; empty for an answer too long to be kept whole."""
    try:
        value = json.loads((one.answer or "").strip().removeprefix("```json").removesuffix("```"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _as_label(value: Any) -> str | None:
    if isinstance(value, str):
        return redact(value.strip()) or None
    return json.dumps(value) if isinstance(value, bool | int) else None


def _described(seen: Sequence[Sighting], field: str | None, found: Sequence[str | None]) -> dict[str, Any]:
    spellings = Counter(label for label in found if label is not None)
    variants = label_variants(spellings)
    counts = Counter({names[0]: sum(spellings[name] for name in names) for names in variants})
    total = counts.total()
    entropy = -sum(n / total * math.log2(n / total) for n in counts.values())
    fair = total / len(counts)
    rare = [label for label, n in counts.items() if n < min(_RARE_COUNT, fair) or n < _RARE_SHARE * fair]
    return {
        "field": field,
        "n_labels": len(counts),
        "counts": [{"label": label, "n": n} for label, n in counts.most_common()],
        "entropy_bits": round(entropy, 3),
        "balance": round(entropy / math.log2(len(counts)), 3) if len(counts) > 1 else 1.0,
        "largest_share": round(counts.most_common(1)[0][1] / total, 4),
        "rare": [{"label": label, "n": counts[label]} for label in sorted(rare, key=lambda label: counts[label])],
        "variants": [names for names in variants if len(names) > 1],
        "skewed": _skewed(seen, found),
    }


def _skewed(seen: Sequence[Sighting], found: Sequence[str | None]) -> list[dict[str, Any]]:
    by_label: dict[str, Counter[str]] = defaultdict(Counter)
    for one, label in zip(seen, found, strict=True):
        if label is not None and one.prompt_language != UNKNOWN:
            by_label[label][one.prompt_language] += 1
    overall = mix(sum(by_label.values(), Counter()))
    skewed = []
    for label, counts in by_label.items():
        language, n = counts.most_common(1)[0]
        # In a fair mix a label of eight would show a language of a third or more at least once (96 of 100 times).
        if len(counts) == 1 and n >= _SKEW_LEAST and overall[language] <= 2 / 3:
            skewed.append({"label": label, "language": language, "n": n})
    return skewed
