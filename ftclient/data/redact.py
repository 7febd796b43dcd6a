"""Finding personal data and secrets in text, and putting placeholders in their place.

Numbers are believed only when their check digits agree (cards, IBAN, My Number) or when they are written like a phone
number. What is found is never printed: `Finding.masked` shows two characters at most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ftclient.data.redact_patterns import PATTERNS, Pattern
from ftclient.errors import MissingDependencyError

KINDS = tuple(dict.fromkeys(pattern.kind for pattern in PATTERNS))
"""What is looked for: secret, email, iban, card, my_number, us_ssn, phone, ip_address."""

_AROUND_CHARS = 40
_CLUE = re.compile(r"[0-9@]|PRIVATE KEY")
"""What every pattern needs a piece of; most texts have none and are done."""
_FETCHING_RECOGNIZERS = ("EmailRecognizer", "UrlRecognizer")
"""Presidio's recognisers that download a list of domains; e-mail addresses are found here already."""
_WIDE_TO_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
"""Full-width forms, one character for one, so that positions stay."""


class Finding(NamedTuple):
    """A piece of a text that should not be in training data."""

    kind: str
    start: int
    end: int
    text: str

    @property
    def masked(self) -> str:
        """What may be shown of it: its kind, its first two characters, its length."""
        shown = self.text[:2] if len(self.text) > 6 else ""  # noqa: PLR2004  of a short one two would be too much
        return f"{self.kind} {shown}***({len(self.text)})"


Finder = Callable[[str], "list[Finding]"]
"""Finds personal data in one text; findings neither overlap nor are out of order."""


def find_personal_data(text: str, *, kinds: Iterable[str] = KINDS) -> list[Finding]:
    """Find e-mail addresses, phone numbers, card and account numbers, My Numbers, keys and passwords.

    Args:
        text: Any text; full-width digits and letters are understood.
        kinds: What to look for, of `KINDS`.

    Returns:
        Findings in the order of the text, without overlaps.
    """
    wanted = frozenset(kinds)
    plain = text if text.isascii() else text.translate(_WIDE_TO_ASCII)
    if _CLUE.search(plain) is None:
        return []
    found: list[Finding] = []
    for pattern in PATTERNS:
        if pattern.kind in wanted:
            found += _matches(pattern, plain, text, found)
    return sorted(found, key=lambda finding: finding.start)


def redact(text: str, *, finder: Finder = find_personal_data, seen: dict[str, str] | None = None) -> str:
    """Replace personal data and secrets by placeholders such as `[EMAIL_1]`.

    Args:
        text: The text.
        finder: What to replace; `presidio_finder()` finds names and places, too.
        seen: Placeholders given so far, by value. Hand in one dict for all texts of an example, and the same value
            gets the same placeholder in all of them.

    Returns:
        The text with placeholders, or the text itself if there was nothing to replace.
    """
    given = {} if seen is None else seen
    return replace_findings(text, finder(text), given)


def replace_findings(text: str, found: Sequence[Finding], seen: dict[str, str]) -> str:
    """Put placeholders where the findings are; `seen` is read and extended."""
    pieces, at = [], 0
    for finding in found:
        pieces += [text[at : finding.start], _placeholder(finding, seen)]
        at = finding.end
    return "".join([*pieces, text[at:]])


def presidio_finder(*, language: str = "en", model: str = "en_core_web_lg", score: float = 0.5) -> Finder:
    """A finder that adds Microsoft Presidio's findings (names, places, and more) to the built-in ones.

    Args:
        language: Language of the texts.
        model: The spaCy model that Presidio uses: the name of one that is installed, or a folder.
        score: Lowest confidence that counts, from 0 to 1.

    Raises:
        MissingDependencyError: Presidio or the spaCy model is not installed.
    """
    try:
        import spacy.util
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError:
        raise MissingDependencyError('pip install "ftclient[presidio]"') from None
    if not spacy.util.is_package(model) and not Path(model).is_dir():
        raise MissingDependencyError(f"python -m spacy download {model}")
    models = [{"lang_code": language, "model_name": model}]
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=[language])
    for name in _FETCHING_RECOGNIZERS:
        analyzer.registry.remove_recognizer(name)

    def find(text: str) -> list[Finding]:
        results = analyzer.analyze(text=text, language=language, score_threshold=score)
        others = [
            Finding(item.entity_type.lower(), item.start, item.end, text[item.start : item.end]) for item in results
        ]
        return without_overlaps([*find_personal_data(text), *sorted(others, key=lambda item: item.start - item.end)])

    return find


def without_overlaps(findings: Iterable[Finding]) -> list[Finding]:
    """Keep of overlapping findings the one that comes first in `findings`; returned in the order of the text."""
    kept: list[Finding] = []
    for finding in findings:
        if not _overlaps(finding.start, finding.end, kept):
            kept.append(finding)
    return sorted(kept, key=lambda finding: finding.start)


def _matches(pattern: Pattern, plain: str, text: str, taken: Sequence[Finding]) -> list[Finding]:
    found = []
    for match in pattern.regex.finditer(plain):
        start, end = match.span("value" if "value" in pattern.regex.groupindex else 0)
        if _overlaps(start, end, taken):
            continue
        around = plain[max(0, start - _AROUND_CHARS) : end + _AROUND_CHARS]
        if pattern.accepts is None or pattern.accepts(plain[start:end], around):
            found.append(Finding(pattern.kind, start, end, text[start:end]))
    return found


def _overlaps(start: int, end: int, taken: Iterable[Finding]) -> bool:
    return any(start < finding.end and finding.start < end for finding in taken)


def _placeholder(finding: Finding, seen: dict[str, str]) -> str:
    if finding.text not in seen:
        prefix = f"[{finding.kind.upper()}_"
        number = 1 + sum(placeholder.startswith(prefix) for placeholder in seen.values())
        seen[finding.text] = f"{prefix}{number}]"
    return seen[finding.text]
