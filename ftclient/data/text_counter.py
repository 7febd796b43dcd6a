r"""Counting the tokens of many texts at once, each different text only once.

tiktoken spends most of its time per call and, for o200k, in one look-ahead of its splitting pattern,
`\s+(?!\S)`: a run of spaces gives its last space to the word that follows. Both are avoided without changing any
count: the texts of a block are joined by a control token and encoded in one call, and before the last space of such a
run a second control token is put, which splits the text at just that place, so that the look-ahead is not needed.
The pattern is then a plain regular expression. That also takes away the stack overflow on very long runs.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ftclient.data.halves import without_halves
from ftclient.data.vocab import ensure_vocabulary

if TYPE_CHECKING:
    import tiktoken

_END = "<|endoftext|>"
_CUT = "<|endofprompt|>"
_CUT_RUN = rf"\1{_CUT}\2"
_MARKS = frozenset({_END, _CUT})

_LOOK_AHEAD = r"|\s+(?!\S)"
_CAPITALS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_ONLY_CAPITALS = r"[\p{Lu}\p{Lt}]+"
"""o200k's second kind of word is tried where the first did not match, and the first takes all words with a small
letter or a letter without case. Nothing but capitals is left, and saying so makes Japanese five times faster."""

_SPACES = "\t\x0b\x0c \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode White_Space without CR and LF, as the body of a character class."""
_RUN = re.compile(rf"([{_SPACES}])([{_SPACES}])(?=[^{_SPACES}\r\n])")
_RUN_OF_BLANKS = re.compile(rf"( )( )(?=[^{_SPACES}\r\n])")
"""The same where blanks are the only spaces, which is twice as fast to find."""
_RARE_SPACE = re.compile(rf"[{_SPACES.replace(chr(9), '').replace(' ', '')}]")

_PIECE_CHARS = 100_000
_SINGLE_SPACE = re.compile(r"(?<=\S) (?=\S)")
"""A token may start with a single space between words, but never goes across the place before it."""
_REMEMBERED_CHARS = 4_000_000


class TextCounter:
    """Counts tokens in one encoding and remembers the texts that come again."""

    def __init__(self, encoding_name: str) -> None:
        self._encoding = _fast_encoding(encoding_name)
        self._cuts_runs = _LOOK_AHEAD not in self._encoding._pat_str  # noqa: SLF001  what `_fast_encoding` chose
        self._end = self._encoding.encode(_END, allowed_special=_MARKS)[0].to_bytes(4, sys.byteorder)
        self._known: dict[str, int] = {}
        self._known_chars = 0

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text; control tokens in a text count as the plain text they are."""
        known = self._known
        seen = Counter(texts)
        new = [text for text in seen if text not in known]
        counts = dict(zip(new, self._encode(new), strict=True))
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
            self._known = {}  # a new one: another thread may still be reading the old one
            self._known_chars = 0

    def _encode(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        joined = _END.join(texts)
        has_marks = joined.count(_END) != len(texts) - 1 or _CUT in joined
        if has_marks:
            return [self._encode_alone(text) for text in texts]
        cuts: list[int] = []
        if (self._cuts_runs and _has_runs(joined)) or len(joined) > _PIECE_CHARS:
            marked, cuts = self._mark(texts, has_others=_has_other_spaces(joined))
            joined = _END.join(marked)
        # Ids are below 2**24, so the top byte of each is 0 and the mark can be found at whole ids only.
        n_tokens = [len(part) // 4 for part in self._tokens(joined).split(self._end)]
        return [n - n_cuts for n, n_cuts in zip(n_tokens, cuts, strict=True)] if cuts else n_tokens

    def _mark(self, texts: Sequence[str], *, has_others: bool) -> tuple[list[str], list[int]]:
        """The texts with marks where they are cut, and for each how many they are; mostly none."""
        run = _RUN if has_others else _RUN_OF_BLANKS
        marked, cuts = list(texts), [0] * len(texts)
        for i, text in enumerate(texts):
            if len(text) > _PIECE_CHARS:
                pieces = self._pieces(text)
                marked[i], cuts[i] = _CUT.join(pieces), len(pieces) - 1
            elif self._cuts_runs and ("  " in text or (has_others and _has_other_spaces(text))):
                marked[i], cuts[i] = run.subn(_CUT_RUN, text)
        return marked, cuts

    def _pieces(self, text: str) -> list[str]:
        """The text in pieces that are encoded independently."""
        ends = [found.end() - 1 for found in _RUN.finditer(text)] if self._cuts_runs else []
        pieces = (text[start:end] for start, end in pairwise([0, *ends, len(text)]))
        return [part for piece in pieces for part in _cut_long(piece)]

    def _encode_alone(self, text: str) -> int:
        """Count a text that may have control tokens in it: they are text here."""
        return sum(len(self._encoding.encode_ordinary(piece)) for piece in self._pieces(text))

    def _tokens(self, text: str) -> bytes:
        """The ids of a text, four bytes each; the two marks are read as control tokens."""
        core: Any = self._encoding._core_bpe  # noqa: SLF001  its buffer spares a list of ints; checked for below
        try:
            if hasattr(core, "encode_to_tiktoken_buffer"):
                return bytes(core.encode_to_tiktoken_buffer(text, _MARKS))
            return array("I", self._encoding.encode(text, allowed_special=_MARKS, disallowed_special=())).tobytes()
        except UnicodeEncodeError:
            return self._tokens(without_halves(text))


def _has_runs(text: str) -> bool:
    """Whether `_RUN` may match; quick and sometimes wrongly True."""
    return "  " in text or _has_other_spaces(text)


def _has_other_spaces(text: str) -> bool:
    """Whether there are spaces other than blanks and line ends."""
    if text.isascii():
        return "\t" in text or "\x0b" in text or "\x0c" in text
    return "\t" in text or _RARE_SPACE.search(text) is not None


def _cut_long(text: str) -> Iterator[str]:
    """Cut a very long text where no token crosses; only within 100,000 characters without a space it cuts blindly."""
    at = 0
    while len(text) - at > _PIECE_CHARS:
        space = _SINGLE_SPACE.search(text, at + _PIECE_CHARS // 2, at + _PIECE_CHARS)
        end = at + _PIECE_CHARS if space is None else space.start()
        yield text[at:end]
        at = end
    yield text[at:]


def _fast_encoding(name: str) -> tiktoken.Encoding:
    """The named encoding, without the look-ahead of its pattern where that is the only one (o200k)."""
    import tiktoken
    from tiktoken_ext import openai_public  # type: ignore[import-untyped]  # no stubs

    if not ensure_vocabulary(name):
        raise LookupError(f"The vocabulary {name} cannot be had.")
    spec = openai_public.ENCODING_CONSTRUCTORS[name]()
    pattern = spec["pat_str"]
    if name != "o200k_base" or _LOOK_AHEAD not in pattern or _CAPITALS not in pattern:
        return tiktoken.get_encoding(name)
    pattern = pattern.replace(_LOOK_AHEAD, "").replace(_CAPITALS, _ONLY_CAPITALS)
    return tiktoken.Encoding(**{**spec, "pat_str": pattern})


@cache
def text_counter(encoding_name: str) -> TextCounter | None:
    """The counter of an encoding, one a process; None if its vocabulary cannot be had."""
    return TextCounter(encoding_name) if ensure_vocabulary(encoding_name) else None
