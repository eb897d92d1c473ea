"""Flips and crops of whole batches, each image with its own draw."""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor


class Flip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mirrors an image left to right with probability `p`.

    It keeps the label of most photographs, and spoils that of digits and letters.
    """

    p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Return for each of `size` images whether it is mirrored, bool (size,)."""
        return torch.rand(size, generator=generator) < self.p

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, C, H, W), those where `draw` (B,) is true mirrored."""
        return torch.where(draw.view(-1, 1, 1, 1), images.flip(3), images)


class Crop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shifts an image by up to `padding` pixels each way; what comes in is black.

    The same as padding with zeros and cropping at random to the old size.
    """

    padding: Annotated[int, msgspec.Meta(ge=1)] = 4

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Return the top left corner of each crop in the padded image, int64 (size, 2)."""
        return torch.randint(0, 2 * self.padding + 1, (size, 2), generator=generator)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, C, H, W), each cropped at its corner in `draw` (B, 2)."""
        height, width = images.shape[2:]
        padded = F.pad(images, (self.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, y, x, H, W)
        rows = torch.arange(len(images), device=images.device)
        return windows[rows, :, draw[:, 0], draw[:, 1]]
