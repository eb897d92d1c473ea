"""Where the pixels go: flips and crops of stored pixels; rotation, shift and zoom as one map.

What comes in from outside an image is black (0 on the scale of stored pixels).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.augment.rows import Shape, put, rows_of, uniform
from pellucid.seeds import fixed_draws

Factor = Annotated[float, msgspec.Meta(ge=0.1, le=10)]


class Flip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mirrors an image left to right with probability `p`.

    It keeps the label of most photographs, and spoils that of digits and letters.

    With `alternate` chance decides for each image only once, whether it is mirrored in the first
    epoch; then it is so in every other one. Two epochs in a row thus show each image both ways,
    where independent draws show half of them twice alike (Jordan, "94% on CIFAR-10 in 3.29
    seconds on a single GPU", 2024, section 3.6).
    """

    p: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    alternate: bool = False

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return for each of `size` images whether it is mirrored, bool (size,)."""
        return torch.rand(size, generator=generator) < self.p

    def turn(self, index: Tensor, epoch: int, seed: int) -> Tensor:
        """Return which images `index` (B,) `alternate` mirrors in `epoch`, from 0: bool (B,)."""
        first = fixed_draws(seed, "turn-first", index) < self.p
        return first ^ bool(epoch % 2)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, C, H, W), those where `draw` (B,) is true mirrored."""
        rows = rows_of(draw, images.device)
        mirrored = images.clone()
        mirrored[rows] = images[rows].flip(3)
        return mirrored

    def words(self, draw: Tensor) -> str:
        """Return `flip`, or nothing."""
        return "flip" if draw else ""


class Crop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shifts an image by up to `padding` pixels each way; what comes in is black.

    The same as padding with zeros and cropping at random to the old size. All whole shifts are
    equally likely. No pixel changes its value.
    """

    padding: Annotated[int, msgspec.Meta(ge=1)] = 4

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return the top left corner of each crop in the padded image, int64 (size, 2)."""
        return torch.randint(0, 2 * self.padding + 1, (size, 2), generator=generator)

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, C, H, W), each cropped at its corner in `draw` (B, 2)."""
        height, width = images.shape[2:]
        padded = F.pad(images, (self.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, y, x, H, W)
        rows = torch.arange(len(images), device=images.device)
        corner = draw.to(images.device, non_blocking=True)
        return windows[rows, :, corner[:, 0], corner[:, 1]]

    def words(self, draw: Tensor) -> str:
        """Return how far the image moves, in pixels to the right and down."""
        down, right = (self.padding - draw).tolist()
        return f"crop {right:+d},{down:+d}" if down or right else ""


class Rotate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turns an image about its centre by up to `degrees` either way, all angles equally likely."""

    degrees: Annotated[float, msgspec.Meta(ge=0, le=180)] = 15.0

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return degrees, counter-clockwise, float32 (size,)."""
        return uniform(size, -self.degrees, self.degrees, generator)

    def words(self, draw: Tensor) -> str:
        """Return the degrees, counter-clockwise."""
        return f"rot {draw:+.1f}" if draw else ""


class Translate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shifts an image by up to `share` of its size each way, by whole pixels."""

    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return pixels to the right and down, float32 (size, 2)."""
        most = torch.tensor([shape[2], shape[1]]) * self.share
        return (uniform(2 * size, -1, 1, generator).view(size, 2) * most).round()

    def words(self, draw: Tensor) -> str:
        """Return how far the image moves, in pixels to the right and down."""
        right, down = (int(pixels) for pixels in draw.tolist())
        return f"shift {right:+d},{down:+d}" if right or down else ""


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Zooms an image about its centre by a factor from `range`; above 1 things get larger."""

    range: tuple[Factor, Factor] = (0.9, 1.1)

    def __post_init__(self) -> None:
        if self.range[0] > self.range[1]:
            raise ValueError(f"must be two factors, the smaller one first; got {self.range}")

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return factors, float32 (size,)."""
        return uniform(size, *self.range, generator)

    def words(self, draw: Tensor) -> str:
        """Return the factor."""
        return f"scale {draw:.2f}" if draw != 1 else ""


def affine(images: Tensor, degrees: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Turn and zoom each image about its centre, then shift it, in one bilinear sampling.

    Images that nothing happens to keep their bits. The others are sampled once, whatever is on, so
    they are blurred once.

    Args:
        images: float (B, C, H, W); changed in place.
        degrees: counter-clockwise, (B,), on the CPU as the next two.
        shift: pixels to the right and down, (B, 2).
        scale: factors, (B,).
    """
    changed = (degrees != 0) | (shift != 0).any(1) | (scale != 1)
    if not changed.any():
        return images
    rows = rows_of(changed, images.device)
    grid = _grid(images, degrees[changed], shift[changed], scale[changed])
    sampled = F.grid_sample(images[rows], grid, "bilinear", "zeros", align_corners=False)
    return put(images, rows, sampled)


def _grid(images: Tensor, degrees: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return where each pixel of the result comes from, (B, H, W, 2), as `grid_sample` wants it.

    With y pointing down, the inverse map of pixel (x, y), measured from the centre, is

        x' = (cos * (x - right) - sin * (y - down)) / scale
        y' = (sin * (x - right) + cos * (y - down)) / scale

    Each is a number per column plus a number per row: only their sum is as large as the images. x'
    and y' lie in planes of their own, which are faster to write and no slower to read.
    """
    height, width = images.shape[2:]
    angle = degrees.double().deg2rad()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    x = torch.arange(width) - (width - 1) / 2 - shift[:, :1]  # (B, W)
    y = torch.arange(height) - (height - 1) / 2 - shift[:, 1:]  # (B, H)
    grid = images.new_empty(len(degrees), 2, height, width)
    for axis, (by_column, by_row), size in ((0, (cos, -sin), width), (1, (sin, cos), height)):
        columns = (by_column[:, None] * x * 2 / size).float().to(grid.device, non_blocking=True)
        lines = (by_row[:, None] * y * 2 / size).float().to(grid.device, non_blocking=True)
        torch.add(columns.unsqueeze(1), lines.unsqueeze(2), out=grid[:, axis])
    return grid.permute(0, 2, 3, 1)
