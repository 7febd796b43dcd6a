"""Images as parts of examples: from a folder with one folder a class, or from a table's column of files."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ftclient.data.convert.rows import INSTALL_DATA, Row
from ftclient.data.convert.shapes import SkipRecordError
from ftclient.data.decoding import BadImageError, decode
from ftclient.data.images import ImageFormat, inspect_image
from ftclient.data.limits import MAX_IMAGE_BYTES
from ftclient.errors import MissingDependencyError

QUESTION = "Which class does this image show?"
"""What is asked about each image unless something else is given."""

_COLORS = frozenset({"RGB", "RGBA"})
_HIDDEN = "."
_JPEG_QUALITY = 90


def is_image_folder(path: Path) -> bool:
    """Whether a folder has folders of classes with images in them."""
    return path.is_dir() and any(map(_is_image, _files(path)))


def image_rows(path: Path) -> Iterator[Row]:
    """The images below a folder; a record has the `file` and its `label`, the name of its folder."""
    for number, file in enumerate(sorted(_files(path)), 1):
        yield Row(number, {"file": str(file), "label": file.parent.name})


def image_example(
    record: dict[str, Any], *, question: str | None = None, system: str | None = None, shrink_px: int | None = None
) -> dict[str, Any]:
    """An example that shows one image of a folder and answers with its label; see `image_part` for errors."""
    file = Path(record["file"])
    part = image_part(file.read_bytes(), name=f"{file.parent.name}/{file.name}", shrink_px=shrink_px)
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    parts = [{"type": "text", "text": question or QUESTION}, part]
    messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": record["label"]}]
    return {"messages": messages}


def is_empty(value: Any) -> bool:
    """Whether a table's cell names no image, nor anything else."""
    if isinstance(value, dict):  # as the datasets library writes images into Parquet
        value = value.get("bytes") or value.get("path")
    return not value.strip() if isinstance(value, str) else value in (None, b"", [])


def why_no_images(values: Iterable[Any], *, folder: Path | None) -> str | None:
    """Say why none of some cells gives an image, as for the first that is not empty; None if one does, or all are.

    A cell may have a list of images.
    """
    first = None
    for value in (each for cell in values for each in (cell if isinstance(cell, list) else [cell])):
        reason = _why_no_image(value, folder)
        if reason is None:
            return None
        first = first or (None if is_empty(value) else reason)
    return first


def cell_part(value: Any, *, folder: Path | None, shrink_px: int | None = None) -> dict[str, Any]:
    """The image that a table's cell names: a file below the table's folder, an address, or the bytes themselves.

    Images of Pillow's are taken, too. Addresses stay addresses; nothing is fetched.

    Raises:
        SkipRecordError: There is no such file, it lies elsewhere, or it is no image that can be used.
    """
    if isinstance(value, dict):  # as the datasets library writes images into Parquet
        value = value.get("bytes") or value.get("path")
    if hasattr(value, "getexif"):  # an image of Pillow's, as that library gives in memory
        value = _encoded(value)
    if isinstance(value, bytes):
        return image_part(value, name="the image", shrink_px=shrink_px)
    name = str(value or "").strip()
    if name.startswith(("http://", "https://", "data:")):
        return {"type": "image_url", "image_url": {"url": name}}
    return image_part(_file_in(folder, name), name=name[-80:], shrink_px=shrink_px)


def image_part(content: bytes, *, name: str, shrink_px: int | None = None) -> dict[str, Any]:
    """An image as a part of a message: a data URL with the bytes as they are, where every host takes them.

    Where Pillow is installed, each image is decoded once, to see that it can be. Grey, CMYK and 16-bit images,
    palettes and GIFs are written anew as RGB, as are those that are larger than `shrink_px` on a side.

    Raises:
        SkipRecordError: It is no image, is damaged, or has more than 10 MB; the text begins with `name`.
        MissingDependencyError: `shrink_px` is given, and Pillow is missing.
    """
    seen = inspect_image(content)
    if seen.format is None and seen.label != "GIF":
        raise SkipRecordError(f"{name} is {seen.label}; JPEG, PNG, WebP and GIF are accepted")
    is_large = shrink_px is not None and max(seen.width_px or 0, seen.height_px or 0) > shrink_px
    needs_change = seen.format is None or seen.colors not in _COLORS or is_large
    changed = _rewritten(content, name, shrink_px) if needs_change else _seen_sound(content, name)
    if len(changed) > MAX_IMAGE_BYTES:
        raise SkipRecordError(f"{name} has {len(changed) / 2**20:.1f} MB; 10 are accepted: shrink it (--shrink 1024)")
    kind = inspect_image(changed).format
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(changed).decode()}"}}


def _why_no_image(value: Any, folder: Path | None) -> str | None:
    try:
        cell_part(value, folder=folder)
    except SkipRecordError as error:
        return str(error)
    return None


def _encoded(image: Any) -> bytes:
    """The bytes of a decoded image: of a JPEG again one, with the quality that it had."""
    target = io.BytesIO()
    kind: dict[str, Any] = {"format": "jpeg", "quality": "keep"} if image.format == "JPEG" else {"format": "png"}
    try:
        image.save(target, exif=image.getexif(), **kind)
    except OSError as error:
        raise SkipRecordError(f"the image: {error}") from None
    return target.getvalue()


def _seen_sound(content: bytes, name: str) -> bytes:
    """The same bytes, decoded once where that is possible here."""
    try:
        decode(content)
    except ImportError:
        return content
    except BadImageError as error:
        raise SkipRecordError(f"{name}: {error}") from None
    return content


def _rewritten(content: bytes, name: str, shrink_px: int | None) -> bytes:
    try:
        image = decode(content)
    except ImportError:
        if shrink_px is not None:
            raise MissingDependencyError(f"{INSTALL_DATA}  # changes images") from None
        what = f"{name} is not an RGB image of JPEG, PNG or WebP; {INSTALL_DATA} converts it"
        raise SkipRecordError(what) from None
    except BadImageError as error:
        raise SkipRecordError(f"{name}: {error}") from None
    if shrink_px is not None:
        image.thumbnail((shrink_px, shrink_px))
    target = io.BytesIO()
    kind: ImageFormat = "jpeg" if inspect_image(content).format == "jpeg" else "png"
    image.save(target, kind, quality=_JPEG_QUALITY)
    return target.getvalue()


def _file_in(folder: Path | None, name: str) -> bytes:
    """The bytes of a file below a folder: a table from elsewhere must not carry off what lies beside it."""
    if not name:
        raise SkipRecordError("the image is empty")
    start = (folder or Path()).resolve()
    try:
        path = (start / name).resolve()
    except ValueError:  # no system has such names
        raise SkipRecordError(f"{name[-80:]!r} is no name of a file") from None
    if not path.is_relative_to(start):
        raise SkipRecordError(f"{name[-80:]} lies outside of the folder of the table; move it there")
    try:
        return path.read_bytes()
    except OSError as error:
        raise SkipRecordError(f"{name[-80:]} cannot be read: {error.strerror}") from None


def _files(path: Path) -> Iterator[Path]:
    """The files in the folders of a folder; hidden ones and hidden folders are what programs keep for themselves."""
    return (
        file
        for file in path.glob("*/*")
        if file.is_file() and not file.name.startswith(_HIDDEN) and not file.parent.name.startswith(_HIDDEN)
    )


def _is_image(file: Path) -> bool:
    with file.open("rb") as stream:
        return inspect_image(stream.read(64)).label in {
            "PNG",
            "JPEG",
            "WebP",
            "GIF",
            "a damaged JPEG",
            "a damaged WebP",
        }
