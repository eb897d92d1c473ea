"""Light and colour of images on the scale 0 to 255, in place; results are clamped to that scale.

Multiplying and adding are separate steps: a fused one may round otherwise within a vector of the
processor than at its end, and the bits of an image would depend on its place in the batch.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
from torch import Tensor

from pellucid.augment.rows import Shape, per_image, put, rows_of, uniform

RED, GREEN, BLUE = 0.2989, 0.587, 0.114
"""Shares of the channels in the grey value: luma of ITU-R BT.601, as in torchvision and Pillow."""

Strength = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Brightness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Multiplies an image by a factor from [1 - strength, 1 + strength]."""

    strength: Strength = 0.2

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return factors, float32 (size,)."""
        return uniform(size, 1 - self.strength, 1 + self.strength, generator)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, C, H, W) times `draw` (B,), changed in place."""
        return images.mul_(per_image(draw, images)).clamp_(max=255)

    def words(self, draw: Tensor) -> str:
        """Return the factor."""
        return _factor("bright", draw)


class Contrast(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Multiplies the distance from the image's mean grey by 1 - strength to 1 + strength."""

    strength: Strength = 0.2

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return factors, float32 (size,)."""
        return uniform(size, 1 - self.strength, 1 + self.strength, generator)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, C, H, W), changed in place by the factors `draw` (B,)."""
        factor = per_image(draw, images)
        means = images.mean(3, keepdim=True).mean(2, keepdim=True)  # (B, C, 1, 1)
        grey = _grey(means) if images.shape[1] == 3 else means
        return images.mul_(factor).add_(grey.mul_(1 - factor)).clamp_(0, 255)

    def words(self, draw: Tensor) -> str:
        """Return the factor."""
        return _factor("contrast", draw)


class Saturation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Multiplies the distance of each pixel from its own grey by 1 - strength to 1 + strength."""

    strength: Strength = 0.2

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return factors, float32 (size,)."""
        return uniform(size, 1 - self.strength, 1 + self.strength, generator)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, 3, H, W), changed in place by the factors `draw` (B,)."""
        factor = per_image(draw, images)
        grey = _grey(images)
        return images.mul_(factor).add_(grey.mul_(1 - factor)).clamp_(0, 255)

    def words(self, draw: Tensor) -> str:
        """Return the factor."""
        return _factor("satur", draw)


class Hue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turns the colour circle by up to `strength` of a full turn either way."""

    strength: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.1

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return shares of a full turn, red towards green above 0, float32 (size,)."""
        return uniform(size, -self.strength, self.strength, generator)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, 3, H, W), their colours turned by `draw` (B,), perhaps in place."""
        changed = draw != 0
        if not changed.any():
            return images
        rows = rows_of(changed, images.device)
        return put(images, rows, turn_hue(images[rows], per_image(draw[changed], images)))

    def words(self, draw: Tensor) -> str:
        """Return the share of a full turn."""
        return f"hue {draw:+.3f}" if draw else ""


class Greyscale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Takes the colour out of an image with probability `p`; it keeps its three channels."""

    p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return for each of `size` images whether it becomes grey, bool (size,)."""
        return torch.rand(size, generator=generator) < self.p

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, 3, H, W), those where `draw` (B,) is true made grey in place."""
        if draw.any():
            rows = rows_of(draw, images.device)
            images[rows] = _grey(images[rows]).expand(-1, 3, -1, -1)
        return images

    def words(self, draw: Tensor) -> str:
        """Return `grey`, or nothing."""
        return "grey" if draw else ""


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Return `images` with each pixel's hue turned; its largest and smallest channel stay.

    The same as going to HSV (Smith 1978), adding to H and coming back, without a case for each of
    the six sectors. Let h be the hue in twelfths of a turn, in [-6, 6] with red at 0, and the
    channels be scaled to [-1, 1] between the pixel's smallest and largest. Over h each channel is
    a trapezoid, and where red is flat, green and blue know the rest:

        |h| = 3 + r (|g - b| - 3),   the sign of h is that of g - b

    and back, clamped to [-1, 1]:

        r = ||h| - 6| - 3,   g = 3 - ||h + 2| - 6|,   b = 3 - ||h - 2| - 6|

    which holds for h in [-12, 12]: nothing need be wrapped.

    Args:
        images: float (B, 3, H, W).
        turn: share of a full turn, in [-0.5, 0.5], (B, 1, 1, 1).

    >>> red = torch.tensor([200.0, 50.0, 50.0]).view(1, 3, 1, 1)
    >>> turn_hue(red, torch.full((1, 1, 1, 1), 1 / 3)).flatten().tolist()
    [50.0, 200.0, 50.0]
    """
    r, g, b = images.split(1, 1)  # (B, 1, H, W) each
    largest = torch.maximum(torch.maximum(r, g), b)
    middle = torch.minimum(torch.minimum(r, g), b).add_(largest).mul_(0.5)
    half = largest.sub_(middle)
    divisor = half.clamp(min=1e-6)  # where it is 0 so are all differences, and the result is grey
    red, side = (r - middle).div_(divisor), (g - b).div_(divisor)
    hue = side.abs().sub_(3).mul_(red).add_(3).copysign_(side).add_(turn * 12)
    turned = torch.empty_like(images)
    for channel, centre in enumerate((0, -2, 2)):
        level = torch.sub(hue, centre, out=turned[:, channel : channel + 1])
        level.abs_().sub_(6).abs_().sub_(3).clamp_(-1, 1).mul_(half)
        if channel:
            level.neg_()
        level.add_(middle)
    return turned


def _grey(images: Tensor) -> Tensor:
    """Return the grey values of `images` (B, 3, H, W), (B, 1, H, W)."""
    r, g, b = images.split(1, 1)
    grey: Tensor = (r * RED).add_(g * GREEN).add_(b * BLUE)
    return grey


def _factor(name: str, draw: Tensor) -> str:
    return f"{name} {draw:.2f}" if draw != 1 else ""
