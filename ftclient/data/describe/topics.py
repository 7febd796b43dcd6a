"""The topics of a description, each a function from what was seen of the examples to a JSON value."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from ftclient.data.describe.language import UNKNOWN, mix
from ftclient.data.describe.sightings import Sighting
from ftclient.data.duplicates import groups
from ftclient.data.reader import clean_text
from ftclient.data.redact import redact

SHOWN = 20
"""At most this many cases of a kind are listed; numbers are of all."""

_JSON_SHARE = 0.5
_FAR_OUT = 6.0
_MAD_TO_SIGMA = 1.4826
"""Makes the median absolute deviation comparable to a standard deviation (for normal data)."""


def duplicates(seen: Sequence[Sighting]) -> dict[str, Any]:
    """Examples that are the same, and those whose prompts are nearly the same and whose answers are the same."""
    by_content = _lines_by(seen, lambda one: one.content)
    exact = [lines for lines in by_content.values() if len(lines) > 1]
    first = {lines[0] for lines in by_content.values()}
    distinct = [one for one in seen if one.line in first]
    near = [
        lines
        for group in groups([one.prompt_print for one in distinct])
        for lines in _lines_by([distinct[at] for at in group], lambda one: one.answer_key).values()
        if len(lines) > 1
    ]
    excerpt = {one.line: one.prompt_excerpt for one in seen}
    return {
        "n_exact": sum(len(lines) - 1 for lines in exact),
        "n_near": sum(len(lines) - 1 for lines in near),
        "exact": [_case(lines, excerpt) for lines in _largest(exact)],
        "near": [_case(lines, excerpt) for lines in _largest(near)],
    }


def ambiguity(seen: Sequence[Sighting], *, has_labels: bool) -> dict[str, Any]:
    """Prompts that got different answers: the same prompt under the same instructions, and nearly the same ones.

    Nearly the same prompts count only where answers are labels: free answers may well differ.
    """
    same = [group for group in _by(seen, lambda one: one.prompt).values() if _disagree(group)]
    known = {one.line for group in same for one in group}
    rest = [one for one in seen if one.line not in known] if has_labels else []
    alike = ([rest[at] for at in positions] for positions in groups([one.prompt_print for one in rest]))
    near = [group for group in alike if _disagree(group)]
    return {
        "n_same_prompt": sum(map(len, same)),
        "n_near_prompt": sum(map(len, near)),
        "same_prompt": [_disagreement(group) for group in _largest(same)],
        "near_prompt": [_disagreement(group) for group in _largest(near)],
    }


def languages(seen: Sequence[Sighting], *, is_complete: bool) -> dict[str, Any]:
    """The languages of prompts and answers, and where they differ."""
    crossed = [
        one
        for one in seen
        if UNKNOWN not in (one.prompt_language, one.answer_language) and one.prompt_language != one.answer_language
    ]
    return {
        "prompts": mix(Counter(one.prompt_language for one in seen)),
        "answers": mix(Counter(one.answer_language for one in seen)),
        "n_unknown": sum(one.prompt_language == UNKNOWN for one in seen),
        "n_crossed": len(crossed),
        "crossed_lines": [one.line for one in crossed[:SHOWN]],
        "is_complete": is_complete,
    }


def personal_data(seen: Sequence[Sighting]) -> dict[str, Any]:
    """Personal data and secrets by kind and place, masked."""
    found = [finding for one in seen for finding in one.personal_data]
    return {
        "n_examples": sum(bool(one.personal_data) for one in seen),
        "n_without_secrets": sum(any(finding.kind != "secret" for finding in one.personal_data) for one in seen),
        "by_kind": dict(Counter(finding.kind for finding in found).most_common()),
        "places": [
            {"line": finding.line, "path": finding.path, "kind": finding.kind, "masked": finding.masked}
            for finding in found[:SHOWN]
        ],
    }


def answer_format(seen: Sequence[Sighting]) -> dict[str, Any]:
    """Whether answers that should be JSON are, and whether their keys and types are the same in all."""
    json_like = [one for one in seen if one.looks_like_json]
    is_json = bool(seen) and len(json_like) >= _JSON_SHARE * len(seen)
    shapes = Counter(one.answer_shape for one in json_like if one.answer_shape is not None)
    invalid = [one.line for one in json_like if one.answer_shape is None and not _is_list(one)]
    other = [one.line for one in seen if not one.looks_like_json] if is_json else []
    main = shapes.most_common(1)[0][0] if shapes else ()
    drift = [
        {"line": one.line, "difference": _difference(main, one.answer_shape)}
        for one in json_like
        if is_json and one.answer_shape is not None and one.answer_shape != main
    ]
    return {
        "is_json": is_json,
        "json_share": round(len(json_like) / max(1, len(seen)), 4),
        "n_invalid": len(invalid),
        "invalid_lines": invalid[:SHOWN],
        "n_not_json": len(other),
        "not_json_lines": other[:SHOWN],
        "schema": [{"key": key, "type": kind} for key, kind in main],
        "n_drift": len(drift),
        "drift": drift[:SHOWN],
    }


def refusals(seen: Sequence[Sighting]) -> dict[str, Any]:
    """Answers that decline to help."""
    lines = [one.line for one in seen if one.is_refusal]
    return {"n": len(lines), "share": round(len(lines) / max(1, len(seen)), 4), "lines": lines[:SHOWN]}


def outliers(seen: Sequence[Sighting], tokens: Mapping[int, int]) -> list[dict[str, Any]]:
    """Examples that are far longer or shorter than the rest, in a lone language, or with garbled characters."""
    found = [{"line": one.line, "why": "garbled", "detail": one.prompt_excerpt} for one in seen if one.is_garbled]
    size = {one.line: tokens.get(one.line, one.n_chars) for one in seen}
    unit = "tokens" if tokens else "characters"
    found += [{"line": line, "why": "length", "detail": f"{size[line]:,} {unit}"} for line in _far_out(size)]
    prompts = Counter(one.prompt_language for one in seen)
    lone = {language for language, n in prompts.items() if language != UNKNOWN and n <= 0.005 * len(seen)}
    alone = [one for one in seen if one.prompt_language in lone]
    found += [{"line": one.line, "why": "language", "detail": one.prompt_language} for one in alone]
    return found[: 5 * SHOWN]


def turns(seen: Iterable[Sighting]) -> dict[int, int]:
    """How many examples have so many messages of the user."""
    return dict(sorted(Counter(one.n_turns for one in seen).items()))


def _far_out(size: Mapping[int, int]) -> list[int]:
    logs = {line: math.log1p(value) for line, value in size.items()}
    if len(logs) < 2 * SHOWN:
        return []
    middle = median(logs.values())
    spread = _MAD_TO_SIGMA * median(abs(value - middle) for value in logs.values())
    # Where most examples are as long as one another the spread is nothing; a tenth of the size is still no outlier.
    limit = _FAR_OUT * max(spread, 0.1)
    far = [line for line, value in logs.items() if abs(value - middle) > limit]
    return sorted(far, key=lambda line: -abs(logs[line] - middle))


def _difference(main: tuple[tuple[str, str], ...], other: tuple[tuple[str, str], ...]) -> str:
    wanted, given = dict(main), dict(other)
    parts = [f"no {key}" for key in wanted if key not in given]
    parts += [f"extra {key}" for key in given if key not in wanted]
    parts += [
        f"{key} is {given[key]}, not {wanted[key]}" for key in wanted if given.get(key, wanted[key]) != wanted[key]
    ]
    return clean_text("; ".join(parts), limit=120)


def _is_list(one: Sighting) -> bool:
    return (one.answer or "").lstrip().startswith("[")


def _by(seen: Iterable[Sighting], key: Any) -> dict[int, list[Sighting]]:
    found: dict[int, list[Sighting]] = defaultdict(list)
    for one in seen:
        found[key(one)].append(one)
    return found


def _lines_by(seen: Iterable[Sighting], key: Any) -> dict[int, list[int]]:
    return {value: [one.line for one in group] for value, group in _by(seen, key).items()}


def _largest(cases: Sequence[Any]) -> Sequence[Any]:
    return sorted(cases, key=len, reverse=True)[:SHOWN]


def _case(lines: Sequence[int], excerpt: Mapping[int, str]) -> dict[str, Any]:
    return {"lines": list(lines[:SHOWN]), "n": len(lines), "prompt": excerpt[lines[0]]}


def _disagree(group: Sequence[Sighting]) -> bool:
    return len({one.answer_key for one in group}) > 1


def _disagreement(group: Sequence[Sighting]) -> dict[str, Any]:
    answers = Counter(clean_text(redact((one.answer or "").strip()), limit=60) for one in group)
    return {
        "lines": [one.line for one in group[:SHOWN]],
        "n": len(group),
        "prompt": group[0].prompt_excerpt,
        "answers": [{"answer": answer, "n": n} for answer, n in answers.most_common(5)],
    }
