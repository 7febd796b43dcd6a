"""Images in training files and prompts: decoded where they stand in a message, complained about by line."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftclient.data.decoding import BadImageError, decode, n_frames
from ftclient.data.findings import HINTS
from ftclient.data.images import BadImageUrlError, decode_data_url, inspect_image
from ftclient.data.reader import open_binary, parse_line
from ftclient.data.report import Issue, IssueLog, Report

__all__ = [
    "IMAGE_CODES",
    "BadImageError",
    "decode",
    "from_url",
    "image_issues",
    "n_frames",
    "with_image_issues",
]

IMAGE_CODES = frozenset({"image_format", "image_too_large", "image_url_invalid"})
"""What may be wrong with an image, in the words of the checker."""

_LABELS = frozenset({"PNG", "JPEG", "WebP", "GIF"})
_DATA_ONLY = (
    "Put the image into the line as data:image/png;base64,... (`ftclient convert` does that): nothing is fetched."
)


def from_url(url: str) -> bytes:
    """The bytes of an image that a message holds as a data URL.

    Raises:
        BadImageError: It is another kind of URL, or broken.
    """
    if url.strip().startswith("file-"):
        what = f"There is no image file {url.strip()[:40]} of at most 10 MB here; upload it with the purpose 'vision'."
        raise BadImageError(what, code="image_url_invalid")
    if url.strip()[:5].lower() != "data:":
        raise BadImageError(f"The image is an address. {_DATA_ONLY}", code="image_url_invalid")
    try:
        return decode_data_url(url.strip())
    except BadImageUrlError as error:
        raise BadImageError(str(error), code="image_url_invalid") from error


def with_image_issues(report: Report, path: Path) -> Report:
    """Add to a report what only decoding finds: images that are damaged, cut off, too large, animated or far away."""
    return with_issues(report, list(image_issues(path)))


def with_issues(report: Report, found: Sequence[Issue]) -> Report:
    """Add further issues, in the order of their lines, to a report."""
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
            what, _, hint = str(error).partition(". ")
            yield Issue(line, path, error.code, "error", f"{what}.", hint or _DATA_ONLY)
        return
    if inspect_image(data).label not in _LABELS:
        return  # found by its header already
    try:
        decode(data)
        frames = n_frames(data)
    except BadImageError as error:
        yield Issue(line, path, error.code, "error", str(error), error.hint or HINTS[error.code])
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
