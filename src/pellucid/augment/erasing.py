"""Parts of an image are hidden: what is erased becomes 0 after normalisation.

That is the mean colour of the training part, as in both papers: what says least about the image.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import torch
from torch import Tensor

from pellucid.augment.rows import Shape, inside, rows_of, uniform

TRIES = 10
"""How often a rectangle is drawn anew when it does not fit into the image."""

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Aspect = Annotated[float, msgspec.Meta(ge=0.01, le=100)]


class Erase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hides one rectangle of an image with probability `p`.

    Random erasing of Zhong et al. (2020), "Random Erasing Data Augmentation".

    Args:
        p: of an image to be erased at all.
        area: smallest and largest share of the image's pixels.
        aspect: smallest and largest height / width; its logarithm is drawn evenly.
    """

    p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
    area: tuple[Share, Share] = (0.02, 0.4)
    aspect: tuple[Aspect, Aspect] = (0.3, 3.33)

    def __post_init__(self) -> None:
        for name, (low, high) in (("area", self.area), ("aspect", self.aspect)):
            if low > high:
                raise ValueError(
                    f"{name} must be two numbers, the smaller one first; got {(low, high)}"
                )

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return top, left, bottom, right of each rectangle, int64 (size, 4); empty for none.

        A rectangle that does not fit is drawn anew, ten times at most; then nothing is erased.
        """
        _, height, width = shape
        erased = torch.rand(size, generator=generator) < self.p
        area = uniform(size * TRIES, *self.area, generator) * height * width
        flattest, tallest = self.aspect
        logs = uniform(size * TRIES, math.log(flattest), math.log(tallest), generator)
        aspect = logs.exp_()
        tall = (area * aspect).sqrt_().round_().long().view(size, TRIES)
        wide = (area / aspect).sqrt_().round_().long().view(size, TRIES)
        fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
        first = fits.long().argmax(1, keepdim=True)  # of those that fit
        tall, wide = tall.gather(1, first).squeeze(1), wide.gather(1, first).squeeze(1)
        top = (torch.rand(size, generator=generator) * (height - tall + 1)).long()
        left = (torch.rand(size, generator=generator) * (width - wide + 1)).long()
        boxes = torch.stack([top, left, top + tall, left + wide], 1)
        return boxes * (erased & fits.any(1)).unsqueeze(1)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return normalised `images` (B, C, H, W), 0 in the boxes `draw` (B, 4), in place."""
        return _hide(images, draw)

    def words(self, draw: Tensor) -> str:
        """Return the size of the rectangle, width x height."""
        return _size("erase", draw)


class Cutout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hides one square of `side` pixels of every image.

    Its centre may be any pixel, so a part of it may lie outside. DeVries and Taylor (2017),
    "Improved Regularization of Convolutional Neural Networks with Cutout".
    """

    side: Annotated[int, msgspec.Meta(ge=1)] = 16

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return top, left, bottom, right of the part inside the image, int64 (size, 4)."""
        limits = torch.tensor(shape[1:])
        centre = (torch.rand(size, 2, generator=generator) * limits).long()
        first = centre - self.side // 2
        corners = (first.clamp(min=0), (first + self.side).minimum(limits))
        return torch.cat(corners, 1)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return normalised `images` (B, C, H, W), 0 in the boxes `draw` (B, 4), in place."""
        return _hide(images, draw)

    def words(self, draw: Tensor) -> str:
        """Return the size of the square's part inside the image, width x height."""
        return _size("cutout", draw)


def _hide(images: Tensor, boxes: Tensor) -> Tensor:
    hit = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if hit.any():
        rows = rows_of(hit, images.device)
        part = images[rows]
        images[rows] = part.masked_fill_(inside(boxes[hit], part), 0)
    return images


def _size(name: str, draw: Tensor) -> str:
    top, left, bottom, right = draw.tolist()
    return f"{name} {right - left}x{bottom - top}" if right > left else ""
