"""The steps of cleaning by name, and how one example goes through them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ftclient.data.clean.changes import Change, excerpts
from ftclient.data.clean.mend import mend
from ftclient.data.clean.places import Place, text_places
from ftclient.data.clean.text import compose, one_space, one_width, with_line_feeds, without_controls, without_html
from ftclient.data.clean.trim import CountTokens, cut_at_turn
from ftclient.data.duplicates import SIMILARITY, Fingerprint, NearIndex, fingerprint, jaccard
from ftclient.data.limits import OPENAI_LIMITS, Limits, Method
from ftclient.data.prompts import example_digest, exchange_of
from ftclient.data.redact import Finder, find_personal_data, replace_findings
from ftclient.data.report import Issue

TEXT_STEPS: dict[str, Callable[[str], str]] = {
    "unicode": compose,
    "controls": without_controls,
    "line_ends": with_line_feeds,
    "html": without_html,
    "width": one_width,
    "white_space": one_space,
}
"""Steps that rewrite texts, in the order in which they are done."""

_MENDING_STEPS = {"roles": frozenset({"role_unknown"}), "keys": frozenset({"unknown_key", "missing_key"})}

STEPS = {
    "unicode": "one code for each letter (NFC); broken characters become U+FFFD",
    "controls": "no control characters, zero-width spaces and marks of direction",
    "line_ends": "line feeds instead of CR LF",
    "roles": "misspelt roles (human, Assistant, bot) get their right names",
    "keys": "misspelt keys get their right names; keys that the host refuses go",
    "html": "no tags and entities, outside of code",
    "width": "narrow letters and digits, wide katakana",
    "white_space": "single spaces, no spaces at line ends, outside of code",
    "labels": "one spelling for each label, the most frequent one",
    "redact": "placeholders for e-mail, phone, card, account and My Numbers, keys and passwords",
    "duplicates": "only the first of examples that are the same",
    "near_duplicates": "only the first of examples whose prompt and answer are nearly the same",
    "too_long": "examples longer than the model's context are cut after a turn, or go",
}
"""All steps with what they leave."""

SAFE_STEPS = ("unicode", "controls", "line_ends", "roles", "keys")
"""Steps that change nothing a model should learn; done unless other steps are named."""


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What to do to each example."""

    steps: Sequence[str] = SAFE_STEPS
    """Names of `STEPS`; their order does not matter."""
    fix: bool = False
    """Mend what `check` finds and set aside lines that cannot be mended."""
    method: Method = "supervised"
    limits: Limits = OPENAI_LIMITS
    too_long: Literal["cut", "drop"] = "cut"
    count_tokens: CountTokens | None = None
    """Counts the tokens of an example; needed by the step `too_long`."""
    finder: Finder = find_personal_data
    similarity: float = SIMILARITY
    """From here on examples are near-duplicates."""
    label_names: Mapping[str, str] = field(default_factory=dict)
    """For the step `labels`: what each spelling becomes; `clean_file` finds out by itself."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done before anything is read."""
        unknown = [step for step in self.steps if step not in STEPS]
        if unknown:
            raise ValueError(f"There is no step {unknown[0]!r}; the steps are {', '.join(STEPS)}.")
        if "too_long" in self.steps and (self.count_tokens is None or self.limits.context_tokens is None):
            raise ValueError("The step too_long needs a model whose context and tokenizer are known: name one.")


class Cleaned(NamedTuple):
    """One example after all steps."""

    example: Any
    """None: the example is let go."""
    changes: list[Change]
    errors: list[Issue]
    """With `fix`: what could not be mended."""


@dataclass
class Cleaner:
    """Takes examples through the steps; knows those that came before, to find duplicates."""

    cleaning: Cleaning
    _line_by_digest: dict[int, int] = field(default_factory=dict)
    _index: NearIndex = field(default_factory=NearIndex)
    _seen: list[tuple[int, Fingerprint, Fingerprint]] = field(default_factory=list)

    def clean(self, example: Any, *, line: int) -> Cleaned:
        """Take one example through the steps; it is not changed itself."""
        changes: list[Change] = []
        example = self._mend_structure(deepcopy(example), line, changes)
        changes += self._clean_texts(example, line)
        changes += self._name_label(example, line)
        errors: list[Issue] = []
        if self.cleaning.fix:
            example, mended, errors = self._mend(example, line, None)
            changes += mended
        if not errors:
            example = self._drop(example, line, changes)
        return Cleaned(example, changes, errors)

    def _mend_structure(self, example: Any, line: int, changes: list[Change]) -> Any:
        codes = frozenset().union(*(_MENDING_STEPS[step] for step in self.cleaning.steps if step in _MENDING_STEPS))
        if not codes and not self.cleaning.fix:
            return example
        example, made, _ = self._mend(example, line, None if self.cleaning.fix else codes)
        changes += made
        return example

    def _mend(self, example: Any, line: int, codes: frozenset[str] | None) -> tuple[Any, list[Change], list[Issue]]:
        return mend(example, line=line, method=self.cleaning.method, limits=self.cleaning.limits, codes=codes)

    def _clean_texts(self, example: Any, line: int) -> Iterator[Change]:
        steps = [step for step in TEXT_STEPS if step in self.cleaning.steps]
        names: dict[str, str] = {}
        for place in text_places(example):
            for step in steps:
                made = place.rewrite(TEXT_STEPS[step])
                if made is not None:
                    yield Change(line, place.path, step, *excerpts(*made))
            if "redact" in self.cleaning.steps:
                yield from self._redact(place, line, names)
        yield from _redact_again(example, line, names)

    def _name_label(self, example: Any, line: int) -> Iterator[Change]:
        names = self.cleaning.label_names
        answers = exchange_of(example).answers if "labels" in self.cleaning.steps else []
        for message in answers[:1] if len(answers) == 1 else []:
            before = message.get("content") if isinstance(message, dict) else None
            if isinstance(before, str) and before.strip() in names:
                message["content"] = names[before.strip()]
                path = f"/messages/{len(example['messages']) - 1}/content"
                yield Change(line, path, "labels", before, message["content"])

    def _redact(self, place: Place, line: int, names: dict[str, str]) -> Iterator[Change]:
        masked: list[str] = []
        put: list[str] = []

        def replace(text: str) -> str:
            found = self.cleaning.finder(text)
            redacted = replace_findings(text, found, names)
            masked.extend(finding.masked for finding in found)
            put.extend(names[finding.text] for finding in found)
            return redacted

        if place.rewrite(replace) is not None:
            yield Change(line, place.path, "redact", ", ".join(masked), ", ".join(put))

    def _drop(self, example: Any, line: int, changes: list[Change]) -> Any:
        for step, look in (("too_long", self._cut), ("duplicates", self._exact), ("near_duplicates", self._near)):
            if step in self.cleaning.steps:
                example, change = look(example, line)
                if change is not None:
                    changes.append(change)
                if example is None:
                    return None
        return example

    def _cut(self, example: Any, line: int) -> tuple[Any, Change | None]:
        count, limit = self.cleaning.count_tokens, self.cleaning.limits.context_tokens
        if count is None or limit is None or not isinstance(example, Mapping) or count(example) <= limit:
            return example, None
        kept = (
            cut_at_turn(example, context_tokens=limit, count_tokens=count) if self.cleaning.too_long == "cut" else None
        )
        before = f"{count(example):,} tokens"
        if kept is None:
            return None, Change(line, "", "too_long", before, None)
        after = f"{count(kept):,} tokens, {len(kept['messages'])} of {len(example['messages'])} messages"
        return kept, Change(line, "/messages", "too_long", before, after)

    def _exact(self, example: Any, line: int) -> tuple[Any, Change | None]:
        first = self._line_by_digest.setdefault(example_digest(example), line)
        if first == line:
            return example, None
        return None, Change(line, "", "duplicates", f"the same as line {first}", None)

    def _near(self, example: Any, line: int) -> tuple[Any, Change | None]:
        exchange = exchange_of(example)
        prompt, answer = fingerprint(exchange.prompt_text), fingerprint(exchange.answer_text)
        lowest = self.cleaning.similarity
        for position, likeness in self._index.similar(prompt, similarity=lowest):
            first, _, other = self._seen[position]
            # A prompt that got another answer is no copy: what is wrong with it is for people to decide.
            if jaccard(answer, other) >= lowest:
                return None, Change(line, "", "near_duplicates", f"{likeness:.0%} like line {first}", None)
        self._index.add(prompt)
        self._seen.append((line, prompt, answer))
        return example, None


def _redact_again(example: Any, line: int, names: Mapping[str, str]) -> Iterator[Change]:
    """Replace secrets where they stand without the word that gave them away, as in "your password X was changed"."""
    secrets = {value: name for value, name in names.items() if name.startswith("[SECRET_")}
    if not secrets:
        return
    known = re.compile("|".join(re.escape(value) for value in sorted(secrets, key=len, reverse=True)))

    def replace(text: str) -> str:
        return known.sub(lambda match: secrets[match.group()], text)

    for place in text_places(example):
        put = [secrets[value] for value in known.findall(place.text)]
        if place.rewrite(replace) is not None:
            yield Change(line, place.path, "redact", ", ".join("secret ***" for _ in put), ", ".join(put))
