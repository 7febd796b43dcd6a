"""Decoding images safely, whatever their bytes are. Needs Pillow, which the extras `data` and `local` bring.

What the header says is believed only to refuse: nothing is decoded before its size is known, and memory stays bounded.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING

from ftclient.data.images import inspect_image

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
"""A larger image is refused unread. One of this size takes some 450 MB for a moment if transparent, else 250."""
LARGE_PIXELS = 16_000_000
"""A larger image is shrunk by a whole factor right after it is decoded (a JPEG while it is); no model sees so much."""
MAX_RATIO = 200
"""Of the longer side to the shorter. Models bring the shorter side to a size of their own: some pixels become millions.
Qwen's draw the line here too."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_ANIMATED_FORMATS = frozenset({"PNG", "WEBP", "GIF"})


class BadImageError(ValueError):
    """An image that cannot be used; the text says why, for people."""

    def __init__(self, message: str, *, code: str = "image_format", hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        """As the checker calls it: `image_format`, `image_too_large` or `image_url_invalid`."""
        self.hint = hint
        """What to do, where that is not what helps with most errors of this code."""


def decode(data: bytes) -> Image:
    """Decode an image to RGB, the right way up.

    Of an animation it is the first frame. Transparency is laid on white, 16 bits become 8, CMYK, grey and palettes
    become RGB, and what has more than 16 megapixels is shrunk by a whole factor.

    Raises:
        BadImageError: It is no PNG, JPEG, WebP or GIF, is damaged or cut off, has more than 50 megapixels, or one side
            is more than 200 times as long as the other.
    """
    image = _opened(data)
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width:,} x {image.height:,} pixels"
        text = f"The image has {size}; at most {MAX_PIXELS // 1_000_000} megapixels are decoded."
        raise BadImageError(text, code="image_too_large")
    if max(image.size) > MAX_RATIO * min(image.size):
        size = f"{image.width:,} x {image.height:,} pixels"
        text = f"The image has {size}; one side may be at most {MAX_RATIO} times as long as the other."
        raise BadImageError(text, code="image_too_large", hint="Cut it into pieces, or put a border around it.")
    try:
        # Decoding whole eighths of a JPEG's blocks takes a fraction of the time and memory; other formats ignore it.
        factor = _shrink_factor(image)
        image.draft(None, (image.width // factor, image.height // factor))
        image.load()
        _turn_upright(image)
        found = _to_rgb(image)
    except Exception as error:
        raise BadImageError(f"The {image.format} is damaged or cut off: {_short(error)}.") from error
    factor = _shrink_factor(found)
    return found if factor == 1 else found.reduce(factor)


def n_frames(data: bytes) -> int:
    """How many pictures an image shows one after the other; 1 for one that stands still."""
    image = _opened(data)
    if image.format not in _ANIMATED_FORMATS:
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception as error:
        raise BadImageError(f"The {image.format} is damaged or cut off: {_short(error)}.") from error


def _opened(data: bytes) -> Image:
    """The image by its header; nothing is decoded yet."""
    from PIL import Image, UnidentifiedImageError

    seen = inspect_image(data)
    if (seen.width_px or 0) * (seen.height_px or 0) > MAX_PIXELS:
        text = (
            f"The {seen.label} has {seen.width_px:,} x {seen.height_px:,} pixels; at most "
            f"{MAX_PIXELS // 1_000_000} megapixels are decoded."
        )
        raise BadImageError(text, code="image_too_large")
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImageError(f"The {seen.label} would unpack to far too many pixels.", code="image_too_large") from error
    except UnidentifiedImageError as error:
        text = f"The content is {seen.label}, not PNG, JPEG, WebP or GIF."
        raise BadImageError(text if seen.format is None else f"The {seen.label} is damaged or cut off.") from error
    except Exception as error:
        raise BadImageError(f"The {seen.label} is damaged: {_short(error)}.") from error


def _shrink_factor(image: Image) -> int:
    factor = 1
    while (image.width // factor) * (image.height // factor) > LARGE_PIXELS:
        factor += 1
    return factor


def _turn_upright(image: Image) -> None:
    """Turn a picture as the camera says; a damaged note about that says nothing."""
    from PIL import ImageOps

    with suppress(Exception):  # whatever the note holds, the picture itself is sound
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image) -> Image:
    """The picture as RGB; no copy is made where none is needed, since large ones take hundreds of megabytes."""
    from PIL import Image

    if image.mode.startswith("I"):
        return _eight_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    shown = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", shown.size, "white")
    white.paste(shown, mask=shown.getchannel("A"))
    return white


def _eight_bits(image: Image) -> Image:
    """16 bits a pixel as 8; Pillow would cut off what lies above 255."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.uint32) >> 8
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _short(error: Exception) -> str:
    return str(error)[:80].rstrip(".") or type(error).__name__
