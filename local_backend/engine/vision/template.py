"""The renderer for models that read images: each image part becomes the tokens that the model reads it as."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftclient.data.decoding import BadImageError, decode
from local_backend.engine.messages import Message
from local_backend.engine.template import Draft, ReadImage, Rendered, Template, generation_stops
from local_backend.engine.vision.reader import Reader, reader_of
from local_backend.images import from_url
from local_backend.task import UserError


class VisionTemplate(Template):
    """Renders conversations with images for one model. Thread-safe."""

    def __init__(self, tokenizer: Any, reader: Reader, *, stop_ids: Sequence[int] = ()) -> None:
        super().__init__(tokenizer, stop_ids=stop_ids)
        self.reader = reader
        self._image_id = int(tokenizer.convert_tokens_to_ids(reader.image_token))

    @classmethod
    def of(cls, model_dir: Path) -> VisionTemplate:
        """Load tokenizer, image processor, chat template and stop tokens from a model's folder."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
        tokenizer.chat_template = _processor_template(model_dir) or tokenizer.chat_template
        return cls(tokenizer, reader_of(model_dir, tokenizer), stop_ids=generation_stops(model_dir))

    def asked(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Rendered:
        """Return what an answer to `messages` is generated from."""
        return self._with_images(super().asked(messages, tools), self._read(messages))

    def drafts(self, example: Mapping[str, Any]) -> list[Draft]:
        """Return what `render` makes of an example before tokens are made."""
        images = self._read(example["messages"])
        return [replace(draft, images=images) for draft in super().drafts(example)]

    def is_image(self, token: int) -> bool:
        """Whether a token stands for a piece of an image."""
        return token == self._image_id

    def _finished(self, draft: Draft, pieces: Sequence[list[int]]) -> Rendered:
        return self._with_images(super()._finished(draft, pieces), draft.images)

    def _plain(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        return [self._plain_parts(message) for message in messages]

    def _plain_parts(self, message: Message) -> dict[str, Any]:
        """One message whose content is a list of parts, as templates of these models read it."""
        (plain,) = super()._plain([{**message, "content": ""}])
        plain["content"] = [self._plain_part(part) for part in _parts(message)]
        return plain

    def _plain_part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        if part["type"] == "image_url":
            return {"type": "image"}
        text = part.get("text") or part.get("refusal") or ""
        if part["type"] not in {"text", "refusal"}:
            what = f"This model reads text and images; a message holds a part of type {part['type']!r}."
            raise UserError(what, param="messages", code="model_not_supported")
        if self.reader.image_token in text:
            what = f"A text contains {self.reader.image_token}, which stands for an image; take it out."
            raise UserError(what, param="messages", code="special_token")
        return {"type": "text", "text": text}

    def _read(self, messages: Sequence[Message]) -> tuple[ReadImage, ...]:
        return tuple(ReadImage(image, self.reader.tokens(_decoded(image))) for image in _images(messages))

    def _with_images(self, rendered: Rendered, images: Sequence[ReadImage]) -> Rendered:
        """Put each image's own tokens where the template wrote one token for it."""
        ids: list[int] = []
        weights: list[float] = []
        used: list[bytes] = []
        for token, weight in zip(rendered.ids, rendered.weights, strict=True):
            tokens = [token]
            if self.is_image(token) and len(used) < len(images):
                tokens = images[len(used)].ids
                used.append(images[len(used)].content)
            ids += tokens
            weights += [weight] * len(tokens)
        return Rendered(ids, weights, tuple(used))


def _images(messages: Sequence[Message]) -> list[bytes]:
    try:
        return [
            from_url(str(part["image_url"]["url"]))
            for message in messages
            for part in _parts(message)
            if part["type"] == "image_url"
        ]
    except BadImageError as error:
        raise UserError(str(error), param="messages", code=error.code) from error


def _decoded(image: bytes) -> Any:
    try:
        return decode(image)
    except BadImageError as error:
        raise UserError(str(error), param="messages", code=error.code) from error


def _parts(message: Message) -> Iterator[Mapping[str, Any]]:
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, str):
        if content:
            yield {"type": "text", "text": content}
        return
    yield from content


def _processor_template(model_dir: Path) -> str | None:
    """The chat template that came with a processor; older folders keep it in a file of its own."""
    file = model_dir / "chat_template.json"
    if not file.is_file():
        return None
    return str(json.loads(file.read_text(encoding="utf-8"))["chat_template"])
