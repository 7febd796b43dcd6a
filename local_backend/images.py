"""Images in training files and prompts: decoded safely, whatever their bytes are, and complained about by line.

What the header says is believed only to refuse: nothing is decoded before its size is known, and memory stays bounded.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftclient.data.findings import HINTS
from ftclient.data.images import BadImageUrlError, decode_data_url, inspect_image
from ftclient.data.reader import open_binary, parse_line
from ftclient.data.report import Issue, IssueLog, Report
from local_backend.task import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
"""A larger image is refused unread: decoded, it would take more than 200 MB."""
LARGE_PIXELS = 16_000_000
"""A larger image is shrunk by a whole factor right after it is decoded (a JPEG while it is); no model sees so much."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_LABELS = frozenset({"PNG", "JPEG", "WebP", "GIF"})
_ANIMATED_FORMATS = frozenset({"PNG", "WEBP", "GIF"})
_DATA_ONLY = (
    "Put the image into the line as data:image/png;base64,... (`ftclient convert` does that): nothing is fetched."
)


class BadImageError(ValueError):
    """An image that cannot be used; the text says why, for people."""

    def __init__(self, message: str, *, code: str = "image_format") -> None:
        super().__init__(message)
        self.code = code
        """As the checker calls it: `image_format`, `image_too_large` or `image_url_invalid`."""


def decode(data: bytes) -> Image:
    """Decode an image to RGB, the right way up.

    Of an animation it is the first frame. Transparency is laid on white, 16 bits become 8, CMYK, grey and palettes
    become RGB, and what has more than 16 megapixels is shrunk by a whole factor.

    Raises:
        BadImageError: It is no PNG, JPEG, WebP or GIF, is damaged or cut off, or has more than 50 megapixels.
    """
    image = _opened(data)
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width:,} x {image.height:,} pixels"
        text = f"The image has {size}; at most {MAX_PIXELS // 1_000_000} megapixels are decoded."
        raise BadImageError(text, code="image_too_large")
    try:
        # Decoding whole eighths of a JPEG's blocks takes a fraction of the time and memory; other formats ignore it.
        factor = _shrink_factor(image)
        image.draft(None, (image.width // factor, image.height // factor))
        image.load()
        upright = _to_rgb(_upright(image))
    except Exception as error:
        raise BadImageError(f"The {image.format} is damaged or cut off: {_short(error)}.") from error
    factor = _shrink_factor(upright)
    return upright if factor == 1 else upright.reduce(factor)


def n_frames(data: bytes) -> int:
    """How many pictures an image shows one after the other; 1 for one that stands still."""
    image = _opened(data)
    if image.format not in _ANIMATED_FORMATS:
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception as error:
        raise BadImageError(f"The {image.format} is damaged or cut off: {_short(error)}.") from error


def from_url(url: str) -> bytes:
    """The bytes of an image that a message holds as a data URL.

    Raises:
        BadImageError: It is another kind of URL, or broken.
    """
    if url.strip()[:5].lower() != "data:":
        raise BadImageError(f"The image is an address. {_DATA_ONLY}", code="image_url_invalid")
    try:
        return decode_data_url(url.strip())
    except BadImageUrlError as error:
        raise BadImageError(str(error), code="image_url_invalid") from error


def decode_part(part: Mapping[str, Any], *, param: str = "messages") -> Image:
    """Decode the image of a message's `image_url` part.

    Raises:
        UserError: It cannot be used; the text says why.
    """
    image_url = part.get("image_url")
    url = image_url.get("url") if isinstance(image_url, Mapping) else None
    try:
        return decode(from_url(url if isinstance(url, str) else ""))
    except BadImageError as error:
        raise UserError(str(error), param=param, code=error.code) from error


def with_image_issues(report: Report, path: Path) -> Report:
    """Add to a report what only decoding finds: images that are damaged, cut off, too large, animated or far away."""
    found = list(image_issues(path))
    if not found:
        return report
    log = IssueLog()
    log.extend(heapq.merge(report.issues, found, key=lambda issue: issue.line or float("inf")))
    return replace(report, issues=log, n_errors=log.n_errors, n_warnings=len(log) - log.n_errors)


def image_issues(path: Path) -> Iterator[Issue]:
    """What is wrong with the images of a training file, beyond what their headers say; in the order of its lines."""
    with open_binary(path) as stream:
        for number, raw in enumerate(stream, 1):
            if b"image_url" in raw:
                for place, url in _image_urls(parse_line(raw.rstrip(b"\n")).value):
                    yield from _url_issues(url, line=number, path=place)


def _url_issues(url: str, *, line: int, path: str) -> Iterator[Issue]:
    try:
        data = from_url(url)
    except BadImageError as error:
        if url.strip()[:5].lower() != "data:":  # broken data URLs are found by the check that comes first
            yield Issue(line, path, error.code, "error", "The image is an address.", _DATA_ONLY)
        return
    if inspect_image(data).label not in _LABELS:
        return  # found by its header already
    try:
        decode(data)
        frames = n_frames(data)
    except BadImageError as error:
        yield Issue(line, path, error.code, "error", str(error), HINTS[error.code])
        return
    if frames > 1:
        text = f"The image is animated; only the first of its {frames} frames is used."
        yield Issue(line, path, "image_animated", "warning", text, "Take one frame out and save it as PNG.")


def _image_urls(example: Any) -> Iterator[tuple[str, str]]:
    """Pointer and URL of each image of an example, as far as its shape is sound."""
    messages = example.get("messages") if isinstance(example, dict) else None
    for i, message in _listed(messages):
        for j, part in _listed(message.get("content")):
            image_url = part.get("image_url")
            if (
                part.get("type") == "image_url"
                and isinstance(image_url, dict)
                and isinstance(image_url.get("url"), str)
            ):
                yield f"/messages/{i}/content/{j}/image_url/url", image_url["url"]


def _listed(items: Any) -> Iterable[tuple[int, dict[str, Any]]]:
    found = items if isinstance(items, list) else []
    return ((i, item) for i, item in enumerate(found) if isinstance(item, dict))


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


def _upright(image: Image) -> Image:
    """Turned as the camera says; a damaged note about that says nothing."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - whatever the note holds, the picture itself is sound
        return image


def _to_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode.startswith("I"):
        return _eight_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
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
