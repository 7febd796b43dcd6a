"""Changed copies of training images: mirrored, cut, and mixed in pairs.

What happens to an image is a pure function of the seed, the epoch and its position there, so a run that goes on after
a crash sees the same copies, whatever its micro-batches.

Shapes: B images, C channels, H and W pixels, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to a training image; the defaults do nothing."""

    flip: bool = False
    """Mirror every other image, left to right. Wrong for digits, letters and signs."""
    crop: float = 0.0
    """Largest share of the edges that is cut off; the rest is stretched to the old size. 0 to 0.9."""
    mixup: float = 0.0
    """Mix each image, and its labels, with the next one of its step (arXiv 1710.09412); the alpha of the Beta
    distribution that the shares are drawn from, 0.1 to 0.4 in the paper. 0 does not mix."""

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Self | None:
        """Return what the options of a job ask for; None where that is nothing."""
        found = cls(**(options or {}))
        return found if found.flip or found.crop or found.mixup else None

    def apply(
        self, pixels_BCHW: torch.Tensor, targets_BL: torch.Tensor, *, seed: int, epoch: int, positions: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return changed copies of the images of one whole step, with the labels that they now have.

        Args:
            pixels_BCHW: What the model's processor made of the images.
            targets_BL: The share of each label; one-hot where nothing is mixed or smoothed.
            seed: The job's.
            epoch: From 0.
            positions: Where in the epoch's order each image stands, from 0.
        """
        dice = [_dice(seed, epoch, position) for position in positions]
        changed = [self._changed(image_CHW, dice[i]) for i, image_CHW in enumerate(pixels_BCHW)]
        copies_BCHW = torch.stack(changed)
        if not self.mixup or len(changed) == 1:
            return copies_BCHW, targets_BL
        shares = [max(share, 1 - share) for share in (float(die.beta(self.mixup, self.mixup)) for die in dice)]
        share_B = torch.tensor(shares, dtype=targets_BL.dtype)
        return _mixed(copies_BCHW, share_B.to(copies_BCHW.dtype)), _mixed(targets_BL, share_B)

    def _changed(self, image_CHW: torch.Tensor, die: np.random.Generator) -> torch.Tensor:
        cut, across, down, side = (float(number) for number in die.random(4))
        if self.crop:
            image_CHW = _cropped(image_CHW, keep=1 - self.crop * cut, across=across, down=down)
        return image_CHW.flip(-1) if self.flip and side < 0.5 else image_CHW  # noqa: PLR2004 - every other image


def _dice(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Random numbers of one image in one epoch; the order of the epoch draws with the same seed, but no counter."""
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch], counter=[0, 0, 0, 1 + position]))


def _cropped(image_CHW: torch.Tensor, *, keep: float, across: float, down: float) -> torch.Tensor:
    height, width = image_CHW.shape[-2:]
    kept_height, kept_width = max(1, round(height * keep)), max(1, round(width * keep))
    top, left = round((height - kept_height) * down), round((width - kept_width) * across)
    part_CHW = image_CHW[:, top : top + kept_height, left : left + kept_width]
    return interpolate(part_CHW[None], size=(height, width), mode="bilinear", antialias=True)[0]


def _mixed(values: torch.Tensor, share_B: torch.Tensor) -> torch.Tensor:
    share = share_B.view(-1, *[1] * (values.dim() - 1))
    return share * values + (1 - share) * values.roll(-1, dims=0)
