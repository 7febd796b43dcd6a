"""From an example to what a body computes with; needs a model's folder, but none of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from local_backend.engine.classify.images import Pixels, load
from local_backend.engine.classify.kinds import Kind, read_config
from local_backend.engine.quiet import quiet
from local_backend.engine.rows import invalid_line
from local_backend.task import UserError

_NO_IMAGES = "It has an image, and this model reads text only. Choose an image model (a ViT, say)."


class TextReader:
    """A tokenizer, and the longest text that its model reads."""

    def __init__(self, tokenizer: Any, context_tokens: int | None) -> None:
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens

    @property
    def has_unknown(self) -> bool:
        """Whether there are texts that the tokenizer has no tokens for."""
        return self.tokenizer.unk_token_id is not None

    @property
    def pad_id(self) -> int:
        """What stands behind the end of a shorter text; masked, so any token will do."""
        return int(self.tokenizer.pad_token_id or 0)

    def read(self, text: str, images: Sequence[bytes], *, line: int, param: str) -> list[int]:
        """Return token ids, with the marks that the model wants around a text.

        Raises:
            JobError: There is an image, or the text is too long; names the line.
        """
        if images:
            raise invalid_line(line, _NO_IMAGES, param)
        ids = self.ids(text)
        if self.context_tokens is not None and len(ids) > self.context_tokens:
            what = (
                f"It has {len(ids):,} tokens, and the model reads {self.context_tokens:,}. Nothing is cut in silence: "
                "shorten it or take it out."
            )
            raise invalid_line(line, what, param)
        return ids

    def ids(self, text: str) -> list[int]:
        """Token ids of a text of any length."""
        return [int(token) for token in self.tokenizer(text, truncation=False, verbose=False)["input_ids"]]

    def size(self, one: Any) -> int:
        """Tokens of a text."""
        return len(one)

    def save(self, folder: Path) -> None:
        """Write the tokenizer."""
        with quiet():
            self.tokenizer.save_pretrained(folder)


class ImageReader:
    """A model's own image processor."""

    context_tokens = None

    def __init__(self, pixels: Pixels, config: dict[str, Any]) -> None:
        self._pixels = pixels
        patch, side = config.get("patch_size"), config.get("image_size")
        is_cut = isinstance(patch, int) and isinstance(side, int)
        self._n_places = (int(side) // int(patch)) ** 2 if is_cut else 1  # type: ignore[arg-type]

    def read(self, text: str, images: Sequence[bytes], *, line: int, param: str) -> bytes:
        """Return the bytes of the one image, which are known to decode.

        Raises:
            JobError: There is none, or several, or it can't be used; names the line.
        """
        del text  # a question beside the image says the same every time
        if len(images) != 1:
            what = "no image, and this model reads images" if not images else f"{len(images)} images; it must have one"
            hint = " Choose a text encoder (minilm-l6, say)." if not images else ""
            raise invalid_line(line, f"It has {what}.{hint}", param)
        load(images[0], line=line, param=param)
        return images[0]

    def size(self, one: Any) -> int:
        """Places that the pieces of an image take."""
        del one
        return self._n_places

    def pixels(self, inputs: Sequence[bytes]) -> torch.Tensor:
        """What the model's processor makes of some images (B, C, H, W)."""
        return self._pixels([load(data, line=0) for data in inputs])

    def save(self, folder: Path) -> None:
        """Write the image processor."""
        self._pixels.save(folder)


Reader = TextReader | ImageReader


@lru_cache(maxsize=4)
def reader_of(folder: Path, kind: Kind) -> Reader:
    """Return what reads examples for a model.

    Raises:
        UserError: The folder lacks the tokenizer or the image processor.
    """
    import transformers

    if kind.modality == "image":
        return ImageReader(Pixels.of(folder), read_config(folder))
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        text = f"This model's tokenizer can't be loaded: {str(error)[:200]}"
        raise UserError(text, param="model", code="model_not_supported") from error
    return TextReader(tokenizer, kind.context_tokens)
