"""What the operations share: their type, and how they reach some images of a batch."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


class Operation(Protocol):
    """One augmentation: what is drawn for each image, and how to say it."""

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return the parameters of `size` images of `shape`, (size, ...), on the CPU."""

    def words(self, draw: Tensor) -> str:
        """Return what `draw`, the parameters of one image, does; empty if that is nothing."""


def rows_of(changed: Tensor, device: torch.device) -> Tensor | slice:
    """Return which images to touch: those where `changed` (B,), on the CPU, is true.

    All of them are a slice, which copies nothing. The draws are on the CPU, so that no GPU has to
    be waited for.
    """
    if bool(changed.all()):
        return slice(None)
    return changed.nonzero().flatten().to(device, non_blocking=True)


def put(images: Tensor, rows: Tensor | slice, changed: Tensor) -> Tensor:
    """Return `images` with `changed` in the places `rows`; where that is all, `changed` itself."""
    if isinstance(rows, slice):
        return changed
    images[rows] = changed
    return images


def per_image(draw: Tensor, images: Tensor) -> Tensor:
    """Return one number per image, `draw` (B,), beside `images` (B, C, H, W): (B, 1, 1, 1)."""
    return draw.to(images.device, non_blocking=True).view(-1, 1, 1, 1)


def uniform(size: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Return `size` numbers from [low, high), float32."""
    return torch.rand(size, generator=generator).mul_(high - low).add_(low)


def inside(boxes: Tensor, images: Tensor) -> Tensor:
    """Return for each pixel whether it lies in its image's box, bool (B, 1, H, W).

    Args:
        boxes: top, left, bottom, right, int64 (B, 4); bottom and right are just outside.
        images: (B, C, H, W), for its size and device.
    """
    height, width = images.shape[2:]
    top, left, bottom, right = (
        boxes.to(images.device, non_blocking=True).view(-1, 4, 1, 1).unbind(1)
    )
    y = torch.arange(height, device=images.device).view(-1, 1)
    x = torch.arange(width, device=images.device)
    return (((y >= top) & (y < bottom)) & ((x >= left) & (x < right))).unsqueeze(1)
