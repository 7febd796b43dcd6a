"""Images beside records of known shapes: under which key they are, and where a conversation shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftclient.data.convert.columns import image_column
from ftclient.data.convert.images import cell_part, is_empty
from ftclient.data.convert.shapes import Make, SkipRecordError
from ftclient.data.prompts import role_of

_PLACE = "<image>"
"""What texts say where an image belongs, as LLaVA's data do."""
_SEVERAL = "images"
"""The key of a list of images."""


def image_key(record: Mapping[str, Any]) -> str | None:
    """The key under which a record has images; None if it has none."""
    if record.get(_SEVERAL) and isinstance(record[_SEVERAL], list):
        return _SEVERAL
    name = image_column(list(record))
    return None if name is None or is_empty(record[name]) else name


def with_images(make: Make, *, folder: Path, shrink_px: int | None, no_images: Collection[str] = ()) -> Make:
    """Let examples show the images beside their records: where texts have places for them, else with the first one.

    What messages show themselves stays as it is; then the key beside them is left out.

    Args:
        make: Makes an example of a record.
        folder: Where the files of images are.
        shrink_px: Images with a longer side are scaled down to this.
        no_images: Keys that have other things; only texts with places for images say that these should be some.
    """

    def seeing(record: Mapping[str, Any]) -> dict[str, Any]:
        example = make(record)
        key = image_key(record)
        if key is None:
            return example
        messages = example["messages"] if "messages" in example else example["input"]["messages"]
        asked = [message for message in messages if role_of(message) == "user"]
        if any(not isinstance(message.get("content"), str) for message in asked):
            return example
        if key in no_images and not any(_PLACE in message["content"] for message in asked):
            return example
        images = record[key] if isinstance(record[key], list) else [record[key]]
        _show([cell_part(image, folder=folder, shrink_px=shrink_px) for image in images], asked)
        return example

    return seeing


def _show(images: Sequence[dict[str, Any]], asked: Sequence[dict[str, Any]]) -> None:
    """Put images into the user's messages."""
    n_places = sum(message["content"].count(_PLACE) for message in asked)
    if n_places not in (0, len(images)):
        raise SkipRecordError(f"its texts have {n_places} places for images ({_PLACE}), and it has {len(images)}")
    if not asked:
        raise SkipRecordError("no message of the user could show its image")
    if n_places == 0:
        asked[0]["content"] = [*_text_parts(asked[0]["content"]), *images]
        return
    left = iter(images)
    for message in asked:
        first, *others = message["content"].split(_PLACE)
        if others:
            message["content"] = _text_parts(first) + [
                part for text in others for part in (next(left), *_text_parts(text))
            ]


def _text_parts(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text.strip()}] if text.strip() else []
