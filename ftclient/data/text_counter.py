r"""Counting the tokens of many texts at once, each different text only once.

tiktoken spends most of its time per call and, for o200k, in one look-ahead of its splitting pattern,
`\s+(?!\S)`: a run of spaces gives its last space to the word that follows. Both are avoided without changing any
count: the texts of a block are joined by a control token and encoded in one call, and before the last space of such a
run a second control token is put, which splits the text at just that place. The look-ahead is then never needed.
The remaining pattern is a plain regular expression, which also takes away the stack overflow on very long runs.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ftclient.data.vocab import ensure_vocabulary

if TYPE_CHECKING:
    import tiktoken

_END = "<|endoftext|>"
_CUT = "<|endofprompt|>"
_MARKS = frozenset({_END, _CUT})
_LOOK_AHEAD = r"|\s+(?!\S)"

_SPACES = "\t\x0b\x0c \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode White_Space without CR and LF, as the body of a character class."""
_LAST_OF_RUN = re.compile(rf"(?<=[{_SPACES}\r\n])(?=[{_SPACES}][^{_SPACES}\r\n])")
_RUN_SIGNS = ("  ", "\n ", "\r ", "\t", "\x0b", "\x0c")
_RARE_SPACE = re.compile(rf"[{_SPACES.replace(chr(9), '').replace(' ', '')}]")

_PIECE_CHARS = 100_000
_REMEMBERED_CHARS = 4_000_000


class TextCounter:
    """Counts tokens in one encoding and remembers the texts that come again."""

    def __init__(self, encoding_name: str) -> None:
        self._encoding = _fast_encoding(encoding_name)
        self._cuts_runs = _is_without_look_ahead(self._encoding)
        self._marks = tuple(self._encoding.encode(mark, allowed_special=set(_MARKS))[0] for mark in (_END, _CUT))
        self._known: dict[str, int] = {}
        self._known_chars = 0

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text; control tokens in a text count as the plain text they are."""
        seen = Counter(texts)
        new = [text for text in seen if text not in self._known]
        counts = dict(zip(new, self._encode(new), strict=True))
        known = self._known
        found = [counts[text] if text in counts else known[text] for text in texts]
        self._remember({text: n for text, n in counts.items() if seen[text] > 1})
        return found

    def count_one(self, text: str) -> int:
        """The number of tokens of one text."""
        return self.count((text,))[0]

    def _remember(self, counts: dict[str, int]) -> None:
        self._known.update(counts)
        self._known_chars += sum(map(len, counts))
        if self._known_chars > _REMEMBERED_CHARS:
            self._known.clear()
            self._known_chars = 0

    def _encode(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        pieces = [self._pieces(text) for text in texts]
        joined = _END.join(_CUT.join(parts) for parts in pieces)
        n_cuts = sum(map(len, pieces)) - len(pieces)
        if joined.count(_END) != len(texts) - 1 or joined.count(_CUT) != n_cuts:
            return [self._encode_alone(parts) for parts in pieces]
        end = self._marks[0].to_bytes(4, sys.byteorder)
        # Ids are below 2**24, so the top byte of each is 0 and the mark can be found at whole ids only.
        n_tokens = [len(part) // 4 for part in self._tokens(joined).split(end)]
        return [n + 1 - len(parts) for n, parts in zip(n_tokens, pieces, strict=True)] if n_cuts else n_tokens

    def _encode_alone(self, pieces: Sequence[str]) -> int:
        """Count a text that may have control tokens in it: they are text here."""
        return sum(len(self._encoding.encode_ordinary(piece)) for piece in pieces)

    def _pieces(self, text: str) -> list[str]:
        """The text in parts that are encoded independently; nearly always one."""
        parts = _LAST_OF_RUN.split(text) if self._cuts_runs and _has_runs(text) else [text]
        if len(text) <= _PIECE_CHARS:
            return parts
        return [piece for part in parts for piece in _cut_long(part)]

    def _tokens(self, text: str) -> bytes:
        """The ids of a text, four bytes each; the two marks are read as control tokens."""
        core: Any = self._encoding._core_bpe  # noqa: SLF001  its buffer spares a list of ints; checked for below
        try:
            if hasattr(core, "encode_to_tiktoken_buffer"):
                return bytes(core.encode_to_tiktoken_buffer(text, _MARKS))
            return array("I", self._encoding.encode(text, allowed_special=_MARKS, disallowed_special=())).tobytes()
        except UnicodeEncodeError:
            return self._tokens(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _has_runs(text: str) -> bool:
    """Whether `_LAST_OF_RUN` may match; quick and sometimes wrongly True."""
    if any(sign in text for sign in _RUN_SIGNS):
        return True
    return not text.isascii() and _RARE_SPACE.search(text) is not None


def _cut_long(text: str) -> Iterator[str]:
    """Cut a very long text where no token crosses; only within 100,000 characters without a space it cuts blindly."""
    at = 0
    while len(text) - at > _PIECE_CHARS:
        space = _last_single_space(text, at + _PIECE_CHARS // 2, at + _PIECE_CHARS)
        yield text[at:space]
        at = space
    yield text[at:]


def _last_single_space(text: str, start: int, end: int) -> int:
    at = text.rfind(" ", start, end)
    while at > start and text[at - 1 : at + 2].strip() != text[at - 1 : at + 2]:
        at = text.rfind(" ", start, at)
    return at if at > start else end


def _fast_encoding(name: str) -> tiktoken.Encoding:
    """The named encoding, without the look-ahead of its pattern where that is the only one (o200k)."""
    import tiktoken
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]  # no stubs

    if not ensure_vocabulary(name):
        raise LookupError(f"The vocabulary {name} cannot be had.")
    spec = openai_public.ENCODING_CONSTRUCTORS[name]()
    pattern = spec["pat_str"].replace(_LOOK_AHEAD, "")
    if "(?!" in pattern or "++" in pattern or not pattern.endswith(r"|\s+"):
        return tiktoken.get_encoding(name)
    return tiktoken.Encoding(**{**spec, "pat_str": pattern})


def _is_without_look_ahead(encoding: tiktoken.Encoding) -> bool:
    return _LOOK_AHEAD not in encoding._pat_str  # noqa: SLF001  what was chosen above


@cache
def text_counter(encoding_name: str) -> TextCounter | None:
    """The counter of an encoding, one a process; None if its vocabulary cannot be had."""
    return TextCounter(encoding_name) if ensure_vocabulary(encoding_name) else None
