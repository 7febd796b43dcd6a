"""The words of a text, as a search compares them."""

from __future__ import annotations

import functools
import re
import threading
import unicodedata
from typing import Any

from ftclient.errors import MissingDependencyError
from ftclient.evaluate.retrieval.documents import INSTALL

_JAPANESE = r"\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUN = re.compile(f"[{_JAPANESE}]+|(?:(?![{_JAPANESE}])[^\\W_])+")
_HAS_JAPANESE = re.compile(f"[{_JAPANESE}]")
_FORM_WORDS = {"助詞", "助動詞", "補助記号", "空白", "接尾辞"}
"""Parts of speech that carry no meaning of their own: particles, auxiliaries, signs, spaces, suffixes."""

_LETTERS_A_WORD = 2
"""A Japanese word has about two letters."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in one form each: lower case, no accents of width; Japanese by its dictionary.

    Raises:
        MissingDependencyError: There is Japanese in it, and SudachiPy is not installed.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    found: list[str] = []
    for run in _RUN.findall(plain):
        found.extend(_japanese(run) if _HAS_JAPANESE.match(run) else [run])
    return found


def size_words(text: str) -> int:
    """Return about how many words a text has, without a dictionary."""
    return sum(-(-len(run) // _LETTERS_A_WORD) if _HAS_JAPANESE.match(run) else 1 for run in _RUN.findall(text))


def _japanese(run: str) -> list[str]:
    with _LOCK:
        words = _dictionary().tokenize(run)
    return [str(word.normalized_form()) for word in words if word.part_of_speech()[0] not in _FORM_WORDS]


_LOCK = threading.Lock()


@functools.cache
def _dictionary() -> Any:
    try:
        from sudachipy import Dictionary
    except ImportError as error:
        raise MissingDependencyError(INSTALL) from error
    return Dictionary(dict="small").tokenizer()
