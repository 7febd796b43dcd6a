"""From an example to what a body computes with; needs a model's folder, but none of its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from local_backend.engine.classify.examples import Example
from local_backend.engine.classify.images import Pixels, load
from local_backend.engine.classify.kinds import Kind, read_config
from local_backend.engine.generation.stamp import Stamp, stamp
from local_backend.engine.quiet import quiet
from local_backend.engine.rows import invalid_line
from local_backend.engine.template import without_offsets
from local_backend.task import JobError, UserError

_NO_IMAGES = "It has an image, and this model reads text only. Choose an image model (a ViT, say)."
_TEXTS_AT_ONCE = 2000
"""Enough to keep all cores busy, and few enough that what tokenizers return of them is not felt in memory."""


class TooLongError(JobError):
    """A text has more tokens than its model reads."""


class TextReader:
    """A tokenizer, and the longest text that its model reads."""

    def __init__(self, tokenizer: Any, context_tokens: int | None) -> None:
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self._fast = without_offsets(tokenizer)

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
            JobError: There is an image, or (TooLongError) the text is too long; names the line.
        """
        return self._fitting(self.ids(text), images, line=line, param=param)

    def read_all(self, examples: Iterable[Example], *, param: str) -> Iterator[list[int]]:
        """Yield what `read` returns of each example, in order; many are made into tokens at once, on all cores."""
        left = iter(examples)
        while part := list(islice(left, _TEXTS_AT_ONCE)):
            for one, ids in zip(part, self.ids_of([one.text for one in part]), strict=True):
                yield self._fitting(ids, one.images, line=one.line, param=param)

    def _fitting(self, ids: list[int], images: Sequence[bytes], *, line: int, param: str) -> list[int]:
        if images:
            raise invalid_line(line, _NO_IMAGES, param)
        if self.context_tokens is not None and len(ids) > self.context_tokens:
            what = (
                f"It has {len(ids):,} tokens, and the model reads {self.context_tokens:,}. Nothing is cut in silence: "
                "shorten it or take it out."
            )
            raise TooLongError(*invalid_line(line, what, param).args)
        return ids

    def ids(self, text: str) -> list[int]:
        """Token ids of a text of any length."""
        (found,) = self.ids_of([text])
        return found

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts of any length."""
        if self._fast is not None:
            return [one.ids for one in self._fast.encode_batch_fast(texts, add_special_tokens=True)]
        return [list(ids) for ids in self.tokenizer(texts, truncation=False, verbose=False)["input_ids"]]

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

    def read_all(self, examples: Iterable[Example], *, param: str) -> Iterator[bytes]:
        """Yield what `read` returns of each example, in order."""
        return (self.read(one.text, one.images, line=one.line, param=param) for one in examples)

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


def reader_of(folder: Path, kind: Kind) -> Reader:
    """Return what reads examples for a model; it is made anew once the folder's files are.

    Raises:
        UserError: The folder lacks the tokenizer or the image processor.
    """
    return _reader_of(folder, kind, stamp(folder))


@lru_cache(maxsize=4)
def _reader_of(folder: Path, kind: Kind, written: Stamp) -> Reader:
    import transformers

    del written  # another stamp is another reader

    if kind.modality == "image":
        return ImageReader(Pixels.of(folder), read_config(folder))
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        text = f"This model's tokenizer can't be loaded: {str(error)[:200]}"
        raise UserError(text, param="model", code="model_not_supported") from error
    return TextReader(tokenizer, kind.context_tokens)
