"""Which encoding a table of text is in: one that decodes it and makes language of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_AT_ONCE = 1 << 20
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_KANA = re.compile(r"[\u3041-\u30ff]")
_HALF_KANA = re.compile(r"[\uff61-\uff9f]")
_NO_TEXT = re.compile(r"[\x80\ue000-\uf8ff]")
"""A control character and private ones: what Shift_JIS makes of the euro sign, the no-break space, and ñ, ó or ö."""


def encoding_of(path: Path) -> str:
    """Find out a file's encoding: UTF-8, UTF-16, Shift_JIS (`cp932`), Windows-1252 or, where none fits, Latin 1.

    The whole file is decoded: one wrong byte at its end would otherwise be found in the middle of the work.
    """
    found = next(name for name in _candidates(path) if _decodes(path, name))
    is_either = found == "cp932" and _decodes(path, "cp1252")
    return "cp1252" if is_either and not _is_japanese(path) else found


def _candidates(path: Path) -> Iterator[str]:
    with path.open("rb") as stream:
        start = stream.read(4)
    if start[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        yield "utf-16"
    yield from ("utf-8-sig", "cp932", "cp1252", "latin-1")


def _decodes(path: Path, encoding: str) -> bool:
    try:
        for _ in _texts(path, encoding):
            pass
    except UnicodeError:
        return False
    return True


def _is_japanese(path: Path) -> bool:
    """Whether a file that is text in Shift_JIS and in Windows-1252 speaks more for the former."""
    votes = (
        _vote(found[0], text[max(0, found.start() - 1) : found.start()] + text[found.end() : found.end() + 1])
        for text in _texts(path, "cp932")
        for found in _NOT_ASCII.finditer(text)
    )
    return sum(votes) > 0


def _vote(run: str, around: str) -> int:
    """How many characters of a run, read as Shift_JIS, speak for Japanese (above 0) or for a Western text (below).

    A Western letter with an accent swallows the one behind it and stands as a kanji within a word: M臈chen, it痴.
    """
    if _NO_TEXT.search(run):
        return -len(run)
    if _KANA.search(run):
        return len(run)
    if any(map(str.isalpha, around)):
        return -len(run)
    return 0 if len(run) == 1 and _HALF_KANA.match(run) else len(run)


def _texts(path: Path, encoding: str) -> Iterator[str]:
    with path.open(encoding=encoding, newline="") as stream:
        while text := stream.read(_AT_ONCE):
            yield text
