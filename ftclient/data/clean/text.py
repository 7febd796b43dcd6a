"""Steps that clean a text. Each takes a text and returns it cleaned, and changes nothing else.

Steps that could harm code leave what stands in back quotes or between ``` fences alone.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

from ftclient.data.halves import without_halves

_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\u00ad\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]"
)
"""Controls but tab and line ends; zero-width and direction marks. Joiners stay: emoji and Indic scripts need them."""

_WIDE = re.compile("[\uff01-\uff5e]+")
_WIDE_WORD_SIGNS = frozenset(chr(ord(sign) + 0xFEE0) for sign in "@#$%&*+-./=_\\:,")
"""Signs that become narrow inside and between narrow letters and digits, as in addresses and numbers."""
_TO_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_HALF_KANA = re.compile("[\uff65-\uff9f]+")

_FENCED = re.compile(r"(```[\s\S]*?(?:```|\Z)|`[^`\n]+`)")
_BLANKS = re.compile(r"(?<=\S)[^\S\n]+(?=\S)")
"""Within a line; what a line begins with stays, as it is how code is written."""
_AROUND_BREAK = re.compile(r"[^\S\n]+(?=\n)")
_BREAKS = re.compile(r"\n{3,}")

_TAGS = (
    "a abbr address article b blockquote body br center code dd del div dl dt em font footer form h1 h2 h3 h4 h5 h6 "
    "head header hr html i iframe img input ins label li link main meta nav ol p pre s script section small span "
    "strike strong style sub sup table tbody td tfoot th thead title tr tt u ul"
).replace(" ", "|")
_DROPPED = re.compile(r"<(script|style|head)\b[^>]*>[\s\S]*?</\1\s*>|<!--[\s\S]*?-->|<!DOCTYPE[^>]*>", re.IGNORECASE)
_LINE_TAG = re.compile(r"[^\S\n]*<(?:br|/p|/div|/li|/tr|/h[1-6]|hr)\b\s*/?>[^\S\n]*\n?", re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]{1,30}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")


def compose(text: str) -> str:
    """Unicode NFC: one code for a letter with its accent, as か with ゛ becomes が. Broken characters become U+FFFD."""
    text = without_halves(text)
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def without_controls(text: str) -> str:
    """Without control characters, zero-width spaces, soft hyphens and marks of direction."""
    return _CONTROL.sub("", text)


def with_line_feeds(text: str) -> str:
    """Line ends as one line feed, instead of CR LF or CR."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def one_width(text: str) -> str:
    """Letters and digits in half width, katakana in full width; Japanese punctuation stays as it is."""
    if text.isascii():
        return text
    text = _HALF_KANA.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
    return _WIDE.sub(_narrow, text)


def one_space(text: str) -> str:
    """Single spaces within lines, none at the ends of lines and around the text, at most one blank line in a row."""
    return _outside_code(text, _one_space).strip()


def without_html(text: str) -> str:
    """Text without HTML tags and entities; `<br>` and ends of paragraphs become line ends."""
    if "<" not in text and "&" not in text:
        return text
    return _outside_code(text, _without_html)


def _narrow(found: re.Match[str]) -> str:
    run = found.group()
    signs = list(run)
    for at, sign in enumerate(signs):
        if sign.translate(_TO_NARROW).isalnum() or (sign in _WIDE_WORD_SIGNS and _is_inside(found, at)):
            signs[at] = sign.translate(_TO_NARROW)
    return "".join(signs)


def _is_inside(found: re.Match[str], at: int) -> bool:
    """Whether letters or digits of the Latin kind stand on both sides."""
    whole, place = found.string, found.start() + at
    sides = whole[max(0, place - 1) : place], whole[place + 1 : place + 2]
    return all(side.translate(_TO_NARROW).isascii() and side.translate(_TO_NARROW).isalnum() for side in sides)


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    if "`" not in text:
        return change(text)
    pieces = _FENCED.split(text)
    return "".join(piece if at % 2 else change(piece) for at, piece in enumerate(pieces))


def _one_space(text: str) -> str:
    return _BREAKS.sub("\n\n", _AROUND_BREAK.sub("", _BLANKS.sub(" ", text)))


def _without_html(text: str) -> str:
    text = _TAG.sub("", _LINE_TAG.sub("\n", _DROPPED.sub("", text)))
    return _ENTITY.sub(lambda found: html.unescape(found.group()), text)
