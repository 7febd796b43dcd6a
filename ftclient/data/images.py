"""What an image is, from its first bytes: format, size and colours. Nothing is decoded and nothing is fetched."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import Literal, NamedTuple

ImageFormat = Literal["png", "jpeg", "webp"]

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)
_PNG_COLORS = {0: "gray", 2: "RGB", 3: "palette", 4: "gray+alpha", 6: "RGBA"}
_JPEG_COLORS = {1: "gray", 3: "RGB", 4: "CMYK"}
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers; C4, C8 and CC are tables, not frames (ITU T.81, table B.1)."""

_BYTES_BY_MAGIC = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF", b"<svg": "SVG"}


class Image(NamedTuple):
    """The outside of an image."""

    format: ImageFormat | None
    """None: not one of the three formats that are accepted."""
    label: str
    """What the content looks like, for people."""
    colors: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    n_bytes: int = 0


class BadImageUrlError(ValueError):
    """A URL that cannot be an image's."""


def decode_data_url(url: str) -> bytes:
    """The bytes of a `data:` URL.

    Raises:
        BadImageUrlError: It is not base64, or the base64 is broken.
    """
    found = _DATA_URL.match(url[:200])
    if found is None:
        raise BadImageUrlError("A data URL must look like data:image/png;base64,...")
    try:
        return base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise BadImageUrlError("The base64 of this data URL is broken.") from None


def inspect_image(content: bytes) -> Image:
    """Recognise an image by its content, whatever its label says."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(content)
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp(content)
    label = next((name for magic, name in _BYTES_BY_MAGIC.items() if content.startswith(magic)), "unknown data")
    return Image(None, label, n_bytes=len(content))


def _png(content: bytes) -> Image:
    if len(content) < 26 or content[12:16] != b"IHDR":  # noqa: PLR2004  the header chunk ends its fields at byte 26
        return Image(None, "a damaged PNG", n_bytes=len(content))
    width, height, _, color = struct.unpack_from(">IIBB", content, 16)
    return Image("png", "PNG", _PNG_COLORS.get(color, "unknown"), width, height, len(content))


def _jpeg(content: bytes) -> Image:
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:  # noqa: PLR2004  every segment starts with FF
        marker = content[at + 1]
        if marker in _JPEG_FRAMES:
            height, width, n_components = struct.unpack_from(">HHB", content, at + 5)
            colors = _JPEG_COLORS.get(n_components, "unknown")
            return Image("jpeg", "JPEG", colors, width, height, len(content))
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:  # noqa: PLR2004  fill bytes and bare markers
            at += 1 if marker == 0xFF else 2  # noqa: PLR2004
            continue
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return Image(None, "a damaged JPEG", n_bytes=len(content))


def _webp(content: bytes) -> Image:
    n_bytes = len(content)
    kind = content[12:16]
    if kind == b"VP8X" and n_bytes >= 30:  # noqa: PLR2004  fixed header sizes of the container
        colors = "RGBA" if content[20] & 0x10 else "RGB"
        width = 1 + int.from_bytes(content[24:27], "little")
        return Image("webp", "WebP", colors, width, 1 + int.from_bytes(content[27:30], "little"), n_bytes)
    if kind == b"VP8L" and n_bytes >= 25:  # noqa: PLR2004
        bits = int.from_bytes(content[21:25], "little")
        colors = "RGBA" if bits >> 28 & 1 else "RGB"
        return Image("webp", "WebP", colors, 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), n_bytes)
    if kind == b"VP8 " and n_bytes >= 30:  # noqa: PLR2004
        width, height = struct.unpack_from("<HH", content, 26)
        return Image("webp", "WebP", "RGB", width & 0x3FFF, height & 0x3FFF, n_bytes)
    return Image(None, "a damaged WebP", n_bytes=n_bytes)
