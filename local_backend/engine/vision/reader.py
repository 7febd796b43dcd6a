"""How the known families of vision-language models read images: as which tokens, and as which numbers.

Everything comes from a model's own image processor, by its Pillow path: torchvision is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from local_backend.engine.classify.kinds import read_config
from local_backend.engine.quiet import quiet
from local_backend.task import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

TILED = frozenset({"idefics3", "smolvlm"})
"""Images are cut into tiles, and each tile stands between marks of its row and column."""
GRIDDED = frozenset({"qwen2_vl", "qwen2_5_vl"})
"""Images keep their shape: the larger, the more tokens."""


class Reader(Protocol):
    """Reads the images of one model."""

    image_token: str
    """What the chat template writes for an image."""

    def tokens(self, image: Image) -> list[int]:
        """Return the ids that stand for an image in the prompt, in place of the one image token."""

    def inputs(self, images: Sequence[Image]) -> dict[str, torch.Tensor]:
        """Return what the model's forward pass takes beside the ids of one prompt with these images, in their order."""


def reads_images(model_dir: Path) -> bool:
    """Whether a folder holds a vision-language model of a known family."""
    config = read_config(model_dir)
    return config.get("model_type") in TILED | GRIDDED and "vision_config" in config


def reader_of(model_dir: Path, tokenizer: Any) -> Reader:
    """Return the reader for a model's folder.

    Raises:
        UserError: The folder has no image processor.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(model_dir, local_files_only=True)
    try:
        with quiet():
            processor = transformers.AutoImageProcessor.from_pretrained(model_dir, local_files_only=True, backend="pil")
    except (OSError, ValueError) as error:
        text = "This model says nothing about how it reads images: its folder lacks preprocessor_config.json."
        raise UserError(text, param="model", code="model_not_supported") from error
    if config.model_type in GRIDDED:
        return GridReader(processor, tokenizer)
    return TileReader(processor, tokenizer, n_tile_tokens=_tile_tokens(config))


class TileReader:
    """For Idefics 3 and SmolVLM."""

    image_token = "<image>"  # noqa: S105 - a mark in a prompt, not a password

    def __init__(self, processor: Any, tokenizer: Any, *, n_tile_tokens: int) -> None:
        import transformers

        # SmolVLM's own class writes the same, but also wants to read videos, which takes torchvision.
        self._processor = transformers.Idefics3Processor(processor, tokenizer, image_seq_len=n_tile_tokens)
        self._known: dict[tuple[int, int], list[int]] = {}

    def tokens(self, image: Image) -> list[int]:
        """Return the marks of rows and columns around the tokens of each tile; they depend on the size alone."""
        if image.size not in self._known:
            found = self._processor(text=[self.image_token], images=[[image]], add_special_tokens=False)
            self._known[image.size] = [int(token) for token in found["input_ids"][0]]
        return self._known[image.size]

    def inputs(self, images: Sequence[Image]) -> dict[str, torch.Tensor]:
        """Return the pixels of all tiles, and which of them are no padding."""
        return dict(self._processor.image_processor(images=[list(images)], return_tensors="pt"))


class GridReader:
    """For Qwen2-VL and Qwen2.5-VL."""

    image_token = "<|image_pad|>"  # noqa: S105 - a mark in a prompt, not a password

    def __init__(self, processor: Any, tokenizer: Any) -> None:
        self._processor = processor
        self._image_id = int(tokenizer.convert_tokens_to_ids(self.image_token))
        self._known: dict[tuple[int, int], list[int]] = {}

    def tokens(self, image: Image) -> list[int]:
        """Return one token for each square of patches that are merged."""
        if image.size not in self._known:
            patches = int(self.inputs([image])["image_grid_thw"].prod())
            self._known[image.size] = [self._image_id] * (patches // self._processor.merge_size**2)
        return self._known[image.size]

    def inputs(self, images: Sequence[Image]) -> dict[str, torch.Tensor]:
        """Return the patches of all images, and how many rows and columns each image has."""
        found = self._processor(images=list(images), return_tensors="pt")
        return {name: found[name] for name in ("pixel_values", "image_grid_thw")}


def _tile_tokens(config: Any) -> int:
    patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    return int(patches / config.scale_factor**2)
