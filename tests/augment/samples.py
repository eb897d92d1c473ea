"""What the tests augment, and with what."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.augment.colour import Brightness, Contrast, Greyscale, Hue, Saturation
from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.geometry import Crop, Flip, Rotate, Scale, Translate
from pellucid.augment.mixing import CutMix, MixUp
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.preprocessing import Preprocessing
from pellucid.values import Batch, ImageSet

CLASSES = 10


def everything(channels: int = 3) -> AugmentSpec:
    """Return the chain with all on that images of so many channels can have."""
    colour = (
        {"saturation": Saturation(), "hue": Hue(), "greyscale": Greyscale(p=0.3)}
        if channels == 3
        else {}
    )
    return AugmentSpec(
        flip=Flip(),
        crop=Crop(),
        rotate=Rotate(),
        translate=Translate(),
        scale=Scale(),
        brightness=Brightness(),
        contrast=Contrast(),
        erase=Erase(p=0.5),
        cutout=Cutout(side=7),
        mixup=MixUp(alpha=1.0, p=0.7),
        cutmix=CutMix(p=0.7),
        **colour,
    )


def batch_of(images: Tensor, rows: Tensor | None = None, size: int | None = None) -> Batch:
    """Return `images` as a batch, or its piece `rows`; labels go round."""
    size = size or len(images)
    rows = torch.arange(size) if rows is None else rows
    return Batch(images[rows], torch.arange(size)[rows] % CLASSES, rows, rows, size)


def preprocessing_of(images: Tensor) -> Preprocessing:
    """Return the normalisation with the statistics of `images`."""
    names = tuple("abcdefghij")
    return Preprocessing.measure(
        ImageSet.of(images, torch.zeros(len(images), dtype=torch.int64), names, "x")
    )
