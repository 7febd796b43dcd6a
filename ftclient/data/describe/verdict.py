"""The verdict: what to mend first, and why it matters; the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ftclient.data.describe.words import say

_FEW_EXAMPLES = 50
_RARE_EXAMPLES = 10
_DUPLICATE_SHARE = 0.01
_LARGEST_SHARE = 0.5
_REFUSAL_SHARE = 0.02
_LOW_BALANCE = 0.85
_MINOR_LANGUAGE = 0.05


class Advice(NamedTuple):
    """One thing to do."""

    rank: int
    """1 must be mended, 2 will show in the model, 3 is worth a look."""
    code: str
    numbers: Mapping[str, Any]
    lines: tuple[int, ...] = ()
    """Some of the lines it is about."""

    def text(self, lang: str) -> str:
        """The advice in words, in `en` or `ja`."""
        return say(f"advice.{self.code}", lang, **self.numbers)


def advise(found: Mapping[str, Any]) -> list[Advice]:
    """What to mend, by rank, from a description's JSON."""
    advice = [*_about_errors(found), *_about_content(found), *_about_labels(found), *_about_answers(found)]
    return sorted(advice, key=lambda item: item.rank)


def _about_errors(found: Mapping[str, Any]) -> Iterator[Advice]:
    check = found["check"]
    if check["n_errors"]:
        codes = ", ".join(list(check["by_code"])[:4])
        yield Advice(1, "errors", {"n": check["n_errors"], "codes": codes})
    if found["n_examples"] < _FEW_EXAMPLES:
        yield Advice(2, "few_examples", {"n": found["n_examples"]})
    tokens = found["tokens"]
    if tokens and tokens["n_too_long"]:
        yield Advice(1, "too_long", {"n": tokens["n_too_long"], "limit": tokens["context_tokens"]})


def _about_content(found: Mapping[str, Any]) -> Iterator[Advice]:
    personal = found["personal_data"]
    secrets = personal["by_kind"].get("secret", 0)
    if secrets:
        lines = tuple(place["line"] for place in personal["places"] if place["kind"] == "secret")
        yield Advice(1, "secrets", {"n": secrets}, lines)
    if personal["n_without_secrets"]:
        kinds = ", ".join(kind for kind in personal["by_kind"] if kind != "secret")
        lines = tuple(place["line"] for place in personal["places"] if place["kind"] != "secret")
        yield Advice(1, "personal_data", {"n": personal["n_without_secrets"], "kinds": kinds}, lines)
    copies = found["duplicates"]["n_exact"] + found["duplicates"]["n_near"]
    if copies:
        rank = 2 if copies > _DUPLICATE_SHARE * found["n_examples"] else 3
        cases = [*found["duplicates"]["exact"], *found["duplicates"]["near"]]
        yield Advice(rank, "duplicates", {"n": copies}, tuple(line for case in cases for line in case["lines"][:2]))
    garbled = [item["line"] for item in found["outliers"] if item["why"] == "garbled"]
    if garbled:
        yield Advice(1, "garbled", {"n": len(garbled)}, tuple(garbled))
    far = [item["line"] for item in found["outliers"] if item["why"] == "length"]
    if far:
        yield Advice(3, "outliers", {"n": len(far)}, tuple(far))


def _about_labels(found: Mapping[str, Any]) -> Iterator[Advice]:
    ambiguity = found["ambiguity"]
    if ambiguity["n_same_prompt"]:
        lines = tuple(line for case in ambiguity["same_prompt"] for line in case["lines"])
        yield Advice(1 if found["labels"] else 2, "ambiguous", {"n": ambiguity["n_same_prompt"]}, lines)
    if ambiguity["n_near_prompt"]:
        lines = tuple(line for case in ambiguity["near_prompt"] for line in case["lines"])
        yield Advice(2, "nearly_ambiguous", {"n": ambiguity["n_near_prompt"]}, lines)
    for labels in found["labels"]:
        yield from _about_balance(labels, "" if labels["field"] is None else f"{labels['field']}: ")


def _about_balance(labels: Mapping[str, Any], field: str) -> Iterator[Advice]:
    if labels["variants"]:
        names = "; ".join(" / ".join(spellings) for spellings in labels["variants"][:3])
        yield Advice(1, "label_variants", {"n": len(labels["variants"]), "names": field + names})
    if labels["rare"]:
        names = ", ".join(item["label"] for item in labels["rare"][:3])
        numbers = {"n": len(labels["rare"]), "names": field + names, "least": _RARE_EXAMPLES}
        yield Advice(2, "rare_labels", numbers)
    if labels["largest_share"] > _LARGEST_SHARE or labels["balance"] < _LOW_BALANCE:
        largest = field + labels["counts"][0]["label"]
        share = f"{labels['largest_share']:.0%}"
        yield Advice(2, "unbalanced", {"label": largest, "share": share, "balance": labels["balance"]})
    if labels["skewed"]:
        worst = max(labels["skewed"], key=lambda item: item["n"])
        numbers = {"n": len(labels["skewed"]), "label": field + worst["label"], "language": worst["language"]}
        yield Advice(2, "skewed", numbers)


def _about_answers(found: Mapping[str, Any]) -> Iterator[Advice]:
    answers, refusals, languages = found["answer_format"], found["refusals"], found["languages"]
    if answers["n_invalid"]:
        yield Advice(1, "invalid_json", {"n": answers["n_invalid"]}, tuple(answers["invalid_lines"]))
    if answers["n_not_json"]:
        share = f"{answers['json_share']:.0%}"
        yield Advice(1, "not_json", {"n": answers["n_not_json"], "share": share}, tuple(answers["not_json_lines"]))
    if answers["n_drift"]:
        example = answers["drift"][0]["difference"]
        lines = tuple(item["line"] for item in answers["drift"])
        yield Advice(1, "schema_drift", {"n": answers["n_drift"], "example": example}, lines)
    if refusals["share"] >= _REFUSAL_SHARE:
        numbers = {"n": refusals["n"], "share": f"{refusals['share']:.0%}"}
        yield Advice(2, "refusals", numbers, tuple(refusals["lines"]))
    if languages["n_crossed"]:
        yield Advice(3, "crossed_languages", {"n": languages["n_crossed"]}, tuple(languages["crossed_lines"]))
    minor = {code: share for code, share in languages["prompts"].items() if share < _MINOR_LANGUAGE}
    if minor:
        code = min(minor, key=lambda name: minor[name])
        yield Advice(3, "minor_language", {"language": code, "share": f"{minor[code]:.1%}"})
