"""The chain of augmentations, in one fixed order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import torch
from torch import Tensor

from pellucid.augment.colour import Brightness, Contrast, Greyscale, Hue, Saturation
from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.geometry import Crop, Flip, Rotate, Scale, Translate, affine
from pellucid.augment.mixing import CutMix, MixUp, partners, soft
from pellucid.augment.rows import Operation, Shape
from pellucid.errors import BadRecipe
from pellucid.seeds import generator
from pellucid.values import Augment, Batch

STORED = ("flip", "crop")
MAPPED = ("rotate", "translate", "scale")
COLOURED = ("brightness", "contrast", "saturation", "hue", "greyscale")
HIDDEN = ("erase", "cutout")
MIXED = ("mixup", "cutmix")


class AugmentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which augmentations a recipe has on: a table each, absent means off.

    The order is fixed. Flip and crop move stored uint8 pixels. If anything of the next two groups
    is on, the pixels then become float32 once, still from 0 to 255: rotation, shift and zoom are
    one sampling; brightness, contrast, saturation, hue and greyscale follow. Then the images are
    normalised, erase and cutout hide parts of them, mixup and cutmix mix pairs.
    """

    flip: Flip | None = None
    crop: Crop | None = None
    rotate: Rotate | None = None
    translate: Translate | None = None
    scale: Scale | None = None
    brightness: Brightness | None = None
    contrast: Contrast | None = None
    saturation: Saturation | None = None
    hue: Hue | None = None
    greyscale: Greyscale | None = None
    erase: Erase | None = None
    cutout: Cutout | None = None
    mixup: MixUp | None = None
    cutmix: CutMix | None = None

    def operations(self) -> dict[str, Operation]:
        """Return what is on, by name, in order."""
        tables = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: table for name, table in tables.items() if table is not None}

    def draws(self, seed: int, step: int, size: int, shape: Shape) -> dict[str, Tensor]:
        """Return what is drawn for a step, by operation: (size, ...) each, on the CPU.

        Each operation has a stream of its own, so switching one on leaves the others' draws alone.

        Args:
            seed: of the run.
            step: from 0.
            size: number of images of the step's whole batch.
            shape: of each image.
        """
        return {
            name: operation.draw(size, shape, generator(seed, f"augment/{name}", step))
            for name, operation in self.operations().items()
        }

    def drawn(self, seed: int, step: int, batch: Batch) -> dict[str, Tensor]:
        """Return what is drawn for the images of `batch`, by operation: (B, ...) each, on the CPU.

        Args:
            seed: of the run.
            step: from 0.
            batch: a piece of the step's batch, not augmented yet.
        """
        channels, height, width = batch.images.shape[1:]
        whole = self.draws(seed, step, batch.size, (channels, height, width))
        draws = {name: draw[batch.rows] for name, draw in whole.items()}
        if self.flip and self.flip.alternate:
            draws["flip"] = self.flip.turn(batch.index, batch.epoch, seed)
        return draws

    def check(self, shape: Shape) -> None:
        """Raise if something that is on cannot be done to images of `shape`.

        Raises:
            BadRecipe: naming the operation, and how to take it out.
        """
        channels, side = shape[0], min(shape[1:])
        for name in ("saturation", "hue", "greyscale"):
            if getattr(self, name) and channels != 3:
                raise BadRecipe(
                    f"augment.{name} changes colours, and the images are grey ({channels} "
                    f"channel{'s' * (channels != 1)}). Take it out: --augment.{name} off"
                )
        for name, key in (("crop", "padding"), ("cutout", "side")):
            table = getattr(self, name)
            if table and getattr(table, key) >= side:
                raise BadRecipe(
                    f"augment.{name}.{key} must be smaller than the shorter side of the images, "
                    f"{side} pixels, or nothing of an image may be left. Got "
                    f"{getattr(table, key)}."
                )

    def build(
        self,
        seed: int,
        prepare: Callable[[Tensor], Tensor],
        classes: int = 0,
        shape: Shape | None = None,
    ) -> Augment:
        """Return the function (batch, step) -> batch as the network gets it.

        Args:
            seed: of the run.
            prepare: pixels from 0 to 255, uint8 or float32 -> normalised float input.
            classes: number of classes; mixing makes of labels (B,) soft targets (B, classes).
            shape: of the images, if it is known, so that a mistake is told now and not at the
                first batch.

        Raises:
            BadRecipe: if something that is on cannot be done to images of `shape`.
        """
        if shape:
            self.check(shape)
        names = self.operations()
        mixing = not names.keys().isdisjoint(MIXED)
        assert classes or not mixing, "mixing has to know the number of classes"

        def augment(batch: Batch, step: int) -> Batch:
            if not names:
                return batch.with_images(prepare(batch.images))
            channels, height, width = batch.images.shape[1:]
            self.check((channels, height, width))
            draws = self.drawn(seed, step, batch)
            images = prepare(self._pixels(batch.images, draws))
            if images is batch.images:  # never change what belongs to the caller
                images = images.clone()
            images = self._each(HIDDEN, images, draws)
            if mixing:
                return self._mix(replace(batch, images=images), draws, classes)
            return batch.with_images(images)

        return augment

    def _pixels(self, images: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Return `images`, uint8, with everything done to them that comes before `prepare`."""
        images = self._each(STORED, images, draws)
        if draws.keys().isdisjoint(MAPPED + COLOURED):
            return images
        images = images.to(torch.float32, copy=True)
        if not draws.keys().isdisjoint(MAPPED):
            size = len(images)
            images = affine(
                images,
                draws.get("rotate", torch.zeros(size)),
                draws.get("translate", torch.zeros(size, 2)),
                draws.get("scale", torch.ones(size)),
            )
        return self._each(COLOURED, images, draws)

    def _each(self, names: Sequence[str], images: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Return `images` after those of the operations `names` that are on."""
        for name in names:
            if name in draws:
                images = getattr(self, name).apply(images, draws[name])
        return images

    def _mix(self, batch: Batch, draws: dict[str, Tensor], classes: int) -> Batch:
        """Return `batch`, normalised, with pairs of images and of targets mixed."""
        images, targets = batch.images, soft(batch.targets, classes)
        partner = partners(batch.rows, batch.size)
        for name in MIXED:
            if name in draws:
                operation = getattr(self, name)
                images, targets = operation.apply(images, targets, draws[name], partner)
        return replace(batch, images=images, targets=targets)
