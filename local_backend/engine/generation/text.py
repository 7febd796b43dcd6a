"""From tokens to text as it may be sent: whole characters only, nothing of a stop string.

Tokens of byte-level vocabularies end in the middle of characters, and stop strings begin in the middle of tokens, so
text is held back until it is certain.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any

from local_backend.task import TokenLogprob

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class Vocabulary:
    """The bytes of every token, and which tokens are marks rather than text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        decoder = json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {}
        parts = [decoder, *decoder.get("decoders", [])]
        self._byte_level = any(part.get("type") == "ByteLevel" for part in parts)
        self.strips_first_space = any(part.get("type") == "Strip" and part.get("start") for part in parts)
        added = tokenizer.added_tokens_decoder
        self._marks = frozenset(tokenizer.all_special_ids) | {id_ for id_, token in added.items() if token.special}
        # Added tokens are plain text even where the vocabulary spells bytes as letters.
        self._added = {id_: str(token.content) for id_, token in added.items()}
        self._known: dict[int, bytes] = {}

    def is_mark(self, token: int) -> bool:
        """Tell whether the token is a special one (never part of an answer's text)."""
        return token in self._marks

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that the token stands for."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._spell(token)
        return known

    def _spell(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].encode()
        written = self._tokenizer.convert_ids_to_tokens(token)
        if written is None:
            return b""
        if self._byte_level:
            return b"".join(_LETTERS[letter] if letter in _LETTERS else letter.encode() for letter in written)
        byte = _BYTE_TOKEN.fullmatch(written)
        return bytes([int(byte[1], 16)]) if byte else str(written).replace("\u2581", " ").encode()


def _byte_letters() -> dict[str, bytes]:
    """Return the letters that byte-level vocabularies write for bytes: printable Latin-1 as is, others moved up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(0x100) if byte not in printable]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    return letters | {chr(0x100 + place): bytes([byte]) for place, byte in enumerate(moved)}


_LETTERS = _byte_letters()


class TextStream:
    """The text of one answer: tokens in, sendable text out."""

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._stop = [text for text in stop if text]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._held_logprobs: list[tuple[int, TokenLogprob]] = []
        self._is_start = True
        self.stopped = False
        """Whether a stop string was met: nothing more will come."""

    def feed(self, token: int, logprob: TokenLogprob | None = None) -> tuple[str, list[TokenLogprob]]:
        """Take a token and return what may be sent now: text, and the log-probabilities of its tokens."""
        if logprob is not None:
            self._held_logprobs.append((len(self._held), logprob))
        if not self._vocabulary.is_mark(token):
            self._held += self._decode(self._vocabulary.bytes_of(token))
        cut = self._first_stop()
        if cut is not None:
            self.stopped = True
            return self._release(cut, all_logprobs=False)
        certain = len(self._held) - self._possible_stop()
        return self._release(certain, all_logprobs=certain == len(self._held))

    def finish(self) -> tuple[str, list[TokenLogprob]]:
        """Return what was held back; half a character at the end becomes U+FFFD."""
        if self.stopped:
            return "", []
        self._held += self._decoder.decode(b"", final=True)
        return self._release(len(self._held), all_logprobs=True)

    def _decode(self, data: bytes) -> str:
        text = self._decoder.decode(data)
        if self._is_start and text:
            self._is_start = False
            if self._vocabulary.strips_first_space:
                text = text.removeprefix(" ")
        return text

    def _first_stop(self) -> int | None:
        found = [place for text in self._stop if (place := self._held.find(text)) >= 0]
        return min(found, default=None)

    def _possible_stop(self) -> int:
        """Return how many characters at the end could be the beginning of a stop string."""
        return max((_overlap(self._held, text) for text in self._stop), default=0)

    def _release(self, n_characters: int, *, all_logprobs: bool) -> tuple[str, list[TokenLogprob]]:
        text, self._held = self._held[:n_characters], self._held[n_characters:]
        ready = [entry for start, entry in self._held_logprobs if all_logprobs or start < n_characters]
        waiting = self._held_logprobs[len(ready) :]
        self._held_logprobs = [(start - n_characters, entry) for start, entry in waiting]
        return text, ready


def _overlap(text: str, stop: str) -> int:
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
