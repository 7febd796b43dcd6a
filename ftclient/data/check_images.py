"""Rules for images in messages: where, how many, which formats, how large. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ftclient.data.findings import Findings, quoted
from ftclient.data.images import BadImageUrlError, decode_data_url, inspect_image
from ftclient.data.limits import Limits

_DETAILS = frozenset({"low", "high", "auto"})


class ImageRules:
    """Checks the images of one example; it counts them."""

    def __init__(self, limits: Limits, *, are_allowed: bool) -> None:
        self._limits = limits
        self._are_allowed = are_allowed
        self.n_images = 0

    def check(self, found: Findings, part: Mapping[str, Any], path: str, role: str | None) -> None:
        """Check one image part of a message by `role`."""
        self.n_images += 1
        if not self._are_allowed:
            found.add("image_misplaced", path, "This method trains on text only.", hint="Remove the image.")
        elif role not in {"user", None}:
            found.add("image_misplaced", path, f"A {role} message has an image.")
        if self.n_images == self._limits.max_images + 1:
            what = f"An example may have {self._limits.max_images} images; this is one more."
            found.add("image_too_many", path, what)
        self._check_shape(found, part, path)

    def _check_shape(self, found: Findings, part: Mapping[str, Any], path: str) -> None:
        image = part.get("image_url")
        place = f"{path}/image_url"
        if "image_url" not in part:
            found.missing(path, "image_url")
        elif not isinstance(image, dict):
            found.wrong_type(place, image, 'an object such as {"url": ...}')
        elif "url" not in image:
            found.missing(place, "url")
        elif not isinstance(image["url"], str):
            found.wrong_type(f"{place}/url", image["url"], "a string")
        else:
            self._check_url(found, image["url"].strip(), f"{place}/url")
        if isinstance(image, dict) and image.get("detail", "auto") not in tuple(_DETAILS):
            what = f"{quoted(image['detail'])} is no level of detail."
            found.add("image_url_invalid", f"{place}/detail", what, hint="Use low, high or auto.")

    def _check_url(self, found: Findings, url: str, path: str) -> None:
        if url[:5].lower() != "data:":
            if url.startswith("file-") and self._limits.images == "any":
                return  # an image that was uploaded to a local server, which looks for it itself
            if not _is_web_address(url):
                found.add("image_url_invalid", path, f"{quoted(url)} is no address of an image.")
            return
        try:
            content = decode_data_url(url)
        except BadImageUrlError as error:
            found.add("image_url_invalid", path, str(error))
            return
        self._check_content(found, content, path)

    def _check_content(self, found: Findings, content: bytes, path: str) -> None:
        image = inspect_image(content)
        if self._limits.images == "any":
            if image.format is None and image.label != "GIF":
                found.add("image_format", path, f"The content is {image.label}, not JPEG, PNG, WebP or GIF.")
        elif image.format is None:
            found.add("image_format", path, f"The content is {image.label}, not JPEG, PNG or WebP.")
        elif image.colors not in {"RGB", "RGBA"}:
            found.add("image_format", path, f"The {image.label} has {image.colors} colours, not RGB or RGBA.")
        if len(content) > self._limits.max_image_bytes:
            what = f"The image has {len(content):,} bytes; {self._limits.max_image_bytes:,} are allowed."
            found.add("image_too_large", path, what)


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower() in {"http", "https"} and bool(parts.hostname) and " " not in url
    except ValueError:
        return False
