"""From the bytes of images to what an image model reads: decoded safely, then through the model's own processor.

Shapes: B images, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ftclient.data.decoding import BadImageError, decode
from local_backend.engine.quiet import quiet
from local_backend.task import JobError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image


def load(data: bytes, *, line: int, param: str = "training_file") -> Image:
    """Decode an image of a file to RGB, the right way up; see `ftclient.data.decoding.decode`.

    Raises:
        JobError: It is damaged, too large or of another kind; the text names the line.
    """
    try:
        return decode(data)
    except BadImageError as error:
        name = param.replace("_", " ")
        text = f"The job failed due to an invalid {name}. Line {line}: {error}"
        raise JobError(f"invalid_{param}", text, param=param) from error


class Pixels:
    """A model's own image processor, by its Pillow path (torchvision is not needed). Thread-safe."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    @classmethod
    def of(cls, model_dir: Path) -> Pixels:
        """Load the processor of a model's folder.

        Raises:
            UserError: The folder has none.
        """
        from transformers import AutoImageProcessor

        try:
            with quiet():
                found = AutoImageProcessor.from_pretrained(model_dir, local_files_only=True, backend="pil")
        except (OSError, ValueError) as error:
            text = "This model says nothing about how it reads images: its folder lacks preprocessor_config.json."
            raise UserError(text, param="model", code="model_not_supported") from error
        return cls(found)

    def __call__(self, pictures: Sequence[Image]) -> torch.Tensor:
        """Return what the model reads of some RGB images, `pixels_BCHW`, fp32."""
        # Said, not guessed: an image that is three pixels high could be taken for one with its channels first.
        found = self._processor(images=list(pictures), return_tensors="pt", input_data_format="channels_last")
        pixels_BCHW: torch.Tensor = found["pixel_values"]
        return pixels_BCHW.float()

    def save(self, folder: Path) -> None:
        """Write the processor beside a model that was tuned with it."""
        with quiet():
            self._processor.save_pretrained(folder)
