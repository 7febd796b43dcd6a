"""Images that training files and questions name by the id of an uploaded file: put in their places, as data URLs.

What a job reads is so one content, whatever becomes of the images' own files.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftclient.data.images import inspect_image
from ftclient.data.limits import MAX_IMAGE_BYTES
from ftclient.data.reader import parse_line
from local_backend.store.blobs import Incoming, blob_path, keep
from local_backend.store.database import Store
from local_backend.store.tables import FileRow

FILE_ID = re.compile(r"file-[A-Za-z0-9]{4,64}")

Find = Callable[[str], "Path | None"]
"""From the id of a file to its content; None where there is none."""


def with_images(store: Store, row: FileRow, *, find: Find) -> str:
    """Return the sha256 of a file's content with each image that it names in its place.

    Ids of no file, and of what is too large for an image, stay as they are; the check names them by line.
    """
    path = blob_path(store.blobs, row.sha256)
    if row.purpose != "fine-tune" or not _names_files(path):
        return row.sha256
    with path.open("rb") as lines, Incoming(store.incoming) as arriving:
        for line in lines:
            arriving.write(_filled(line, find) if b'"file-' in line and b"image_url" in line else line)
        content = arriving.finish()
        with store.write():  # so that nobody finds it old and unused, and removes it, before a job is to read it
            os.utime(keep(content, folder=store.blobs))
    return content.sha256


def _names_files(path: Path) -> bool:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b'"file-') >= 0


def put_images(example: Any, *, find: Find) -> bool:
    """Put the images that an example, or a request to chat, names by id in their places; return whether there are any.

    What has no such messages stays as it is.
    """
    filled = [_fill(image_url, find) for image_url in _image_urls(example)]
    return any(filled)


def _filled(line: bytes, find: Find) -> bytes:
    value = parse_line(line.rstrip(b"\n")).value
    return json.dumps(value).encode() + b"\n" if put_images(value, find=find) else line


def _image_urls(value: Any) -> Iterator[dict[str, Any]]:
    """The `image_url` objects of an example, as far as its shape is sound."""
    for message in _dicts(value.get("messages") if isinstance(value, dict) else None):
        for part in _dicts(message.get("content")):
            if isinstance(part.get("image_url"), dict):
                yield part["image_url"]


def _dicts(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _fill(image_url: dict[str, Any], find: Find) -> bool:
    url = image_url.get("url")
    path = find(url) if isinstance(url, str) and FILE_ID.fullmatch(url) else None
    if path is None or path.stat().st_size > MAX_IMAGE_BYTES:
        return False
    content = path.read_bytes()
    kind = inspect_image(content).format or "png"
    image_url["url"] = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return True
