"""A folder of images, one folder a class, as examples of vision fine-tuning."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftclient.data.convert.rows import Row
from ftclient.data.convert.shapes import SkipRecordError
from ftclient.data.images import inspect_image
from ftclient.data.limits import MAX_IMAGE_BYTES

QUESTION = "Which class does this image show?"
"""What is asked about each image unless something else is given."""

_COLORS = frozenset({"RGB", "RGBA"})
_HIDDEN = "."


def is_image_folder(path: Path) -> bool:
    """Whether a folder has folders of classes with images in them."""
    return path.is_dir() and any(_is_image(file) for file in path.glob("*/*"))


def image_rows(path: Path) -> Iterator[Row]:
    """The images below a folder; a record has the `file` and its `label`, the name of its folder."""
    files = sorted(file for file in path.glob("*/*") if file.is_file() and not file.name.startswith(_HIDDEN))
    for number, file in enumerate(files, 1):
        yield Row(number, {"file": str(file), "label": file.parent.name})


def image_example(record: dict[str, Any], *, question: str | None = None, system: str | None = None) -> dict[str, Any]:
    """An example that shows one image and answers with its label.

    Raises:
        SkipRecordError: The file is no image that the API takes: JPEG, PNG or WebP, RGB or RGBA, at most 10 MB.
    """
    content = Path(record["file"]).read_bytes()
    name = Path(record["file"]).name
    image = inspect_image(content)
    if image.format is None:
        raise SkipRecordError(f"{name} is {image.label}; JPEG, PNG and WebP are accepted")
    if image.colors not in _COLORS:
        raise SkipRecordError(f"{name} has {image.colors} pixels; save it as RGB or RGBA")
    if len(content) > MAX_IMAGE_BYTES:
        raise SkipRecordError(f"{name} has {len(content) / 2**20:.1f} MB; 10 are accepted")
    url = f"data:image/{image.format};base64,{base64.b64encode(content).decode()}"
    parts = [{"type": "text", "text": question or QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": record["label"]}]
    return {"messages": messages}


def _is_image(file: Path) -> bool:
    with file.open("rb") as stream:
        return inspect_image(stream.read(64)).label in {"PNG", "JPEG", "WebP", "a damaged JPEG", "a damaged WebP"}
