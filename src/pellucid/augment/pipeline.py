"""The chain of augmentations, in one fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
import torch
from torch import Tensor

from pellucid.augment.geometry import Crop, Flip
from pellucid.seeds import generator
from pellucid.values import Augment, Batch


class Operation(Protocol):
    """One augmentation: what is drawn for each image, and what that does to it."""

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Return the parameters of `size` images, (size, ...), on the CPU."""

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Return `images` (B, C, H, W) changed by `draw` (B, ...)."""


class AugmentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which augmentations a recipe has on: a table each, absent means off.

    The order is fixed: flip, crop. All work on the stored uint8 pixels.
    """

    flip: Flip | None = None
    crop: Crop | None = None

    def operations(self) -> list[tuple[str, Operation]]:
        """Return what is on, by name, in order."""
        chain: list[tuple[str, Operation | None]] = [("flip", self.flip), ("crop", self.crop)]
        return [(name, operation) for name, operation in chain if operation is not None]

    def build(self, seed: int, prepare: Callable[[Tensor], Tensor]) -> Augment:
        """Return the function (batch, step) -> batch as the network gets it.

        Args:
            seed: of the run.
            prepare: uint8 pixels -> float input, done last.
        """
        operations = self.operations()

        def augment(batch: Batch, step: int) -> Batch:
            images = batch.images
            for name, operation in operations:
                draw = operation.draw(batch.size, generator(seed, f"augment/{name}", step))
                images = operation.apply(images, draw[batch.rows].to(images.device))
            return batch.with_images(prepare(images))

        return augment
