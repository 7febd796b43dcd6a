"""Which language a text is in: by its script where that is enough, else by py3langid."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

UNKNOWN = "?"
"""A text too short or too mixed to tell."""

_SAMPLE_CHARS = 600
_LEAST_LETTERS = 12
_LEAST_CONFIDENCE = 0.6
_SCRIPTS = (
    ("ja", re.compile("[\u3041-\u3096\u30a1-\u30fa]")),
    ("ko", re.compile("[\uac00-\ud7a3]")),
    ("th", re.compile("[\u0e01-\u0e3a]")),
    ("el", re.compile("[\u03b1-\u03c9]")),
    ("he", re.compile("[\u05d0-\u05ea]")),
)
"""Scripts that one language is written in; the first two in a hundred letters decide."""
_SCRIPT_SHARE = 0.02
_IDEOGRAPH = re.compile("[\u4e00-\u9fff]")
_SCRIPT_CODES = (
    ("Latn", re.compile("[A-Za-z\u00c0-\u024f]")),
    ("Cyrl", re.compile("[\u0400-\u04ff]")),
    ("Hani", _IDEOGRAPH),
    ("Arab", re.compile("[\u0600-\u06ff]")),
    ("Deva", re.compile("[\u0900-\u097f]")),
)
"""ISO 15924 codes of scripts that many languages share; the answer where py3langid is not installed."""


class Languages:
    """Tells languages; remembers texts that come again."""

    def __init__(self) -> None:
        self._identifier: Any = _load_identifier()
        self._known: dict[str, str] = {}

    @property
    def is_complete(self) -> bool:
        """False without py3langid: only scripts are told apart then."""
        return self._identifier is not None

    def of(self, text: str) -> str:
        """The ISO 639-1 code of a text's language (without py3langid perhaps only that of its script), or `?`."""
        sample = text[:_SAMPLE_CHARS]
        if sample not in self._known:
            if len(self._known) > 50_000:  # noqa: PLR2004  about 30 MB
                self._known.clear()
            self._known[sample] = self._tell(sample)
        return self._known[sample]

    def _tell(self, sample: str) -> str:
        n_letters = sum(map(str.isalpha, sample))
        for language, script in _SCRIPTS:
            if len(script.findall(sample)) > _SCRIPT_SHARE * max(1, n_letters):
                return language
        n_ideographs = len(_IDEOGRAPH.findall(sample))
        if n_letters + n_ideographs < _LEAST_LETTERS:
            return UNKNOWN
        if self._identifier is None:
            return max(_SCRIPT_CODES, key=lambda entry: len(entry[1].findall(sample)))[0]
        language, confidence = self._identifier.classify(sample)
        return str(language) if confidence >= _LEAST_CONFIDENCE else UNKNOWN


def mix(languages: Counter[str]) -> dict[str, float]:
    """The share of each language among the texts whose language is known."""
    known = {language: n for language, n in languages.most_common() if language != UNKNOWN}
    total = sum(known.values())
    return {language: round(n / total, 4) for language, n in known.items()}


@cache
def _load_identifier() -> Any:
    """py3langid's model; it takes a second to unpack, so once a process."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
