"""Batched augmentation does to each image what its name says, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pellucid.augment.geometry import Crop, Flip
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.digits import Digits
from pellucid.values import Batch


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """Forty real digits, and as many in three different channels."""
    return Digits().load().train.pixels(torch.arange(0, 5000, 125))


def test_flip_is_pillows_mirror(pictures: torch.Tensor) -> None:
    draw = Flip(p=0.5).draw(len(pictures), torch.Generator().manual_seed(0))
    flipped = Flip().apply(pictures, draw)
    assert 0 < int(draw.sum()) < len(draw)
    for before, after, mirrored in zip(pictures, flipped, draw, strict=True):
        picture = Image.fromarray(before[0].numpy())
        expected = ImageOps.mirror(picture) if mirrored else picture
        assert np.array_equal(after[0].numpy(), np.asarray(expected))


def test_crop_is_padding_and_cutting_out(pictures: torch.Tensor) -> None:
    colour = torch.cat([pictures, 255 - pictures, pictures.flip(2)], 1)
    draw = Crop(padding=3).draw(len(colour), torch.Generator().manual_seed(0))
    cropped = Crop(padding=3).apply(colour, draw)
    assert {tuple(corner) for corner in draw.tolist()} > {(3, 3)} or len(draw.unique(dim=0)) > 20
    for before, after, (top, left) in zip(colour, cropped, draw.tolist(), strict=True):
        padded = np.pad(before.numpy(), ((0, 0), (3, 3), (3, 3)))
        assert np.array_equal(after.numpy(), padded[:, top : top + 28, left : left + 28])


def test_every_shift_is_drawn_about_equally_often() -> None:
    draw = Crop(padding=1).draw(9000, torch.Generator().manual_seed(0))
    counts = torch.bincount(draw[:, 0] * 3 + draw[:, 1], minlength=9).float()
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 26.1  # chi-square, 8 degrees, 99.9 %


def test_all_images_of_a_batch_have_draws_of_their_own(pictures: torch.Tensor) -> None:
    same = pictures[:1].repeat(64, 1, 1, 1)
    rows = torch.arange(64)
    batch = Batch(same, torch.zeros(64), rows, rows, 64)
    spec = AugmentSpec(flip=Flip(), crop=Crop(padding=4))
    images = spec.build(0, lambda x: x)(batch, 0).images
    assert len(images.flatten(1).unique(dim=0)) > 40


def test_draws_depend_on_step_and_seed_only(pictures: torch.Tensor) -> None:
    rows = torch.arange(len(pictures))
    batch = Batch(pictures, torch.zeros(len(rows)), rows, rows, len(rows))
    spec = AugmentSpec(crop=Crop(padding=4))

    def images(seed: int, step: int) -> torch.Tensor:
        return spec.build(seed, lambda x: x)(batch, step).images

    assert torch.equal(images(0, 5), images(0, 5))
    assert not torch.equal(images(0, 5), images(0, 6))
    assert not torch.equal(images(0, 5), images(1, 5))


def test_switching_one_operation_on_leaves_the_others_draws(pictures: torch.Tensor) -> None:
    rows = torch.arange(len(pictures))
    batch = Batch(pictures, torch.zeros(len(rows)), rows, rows, len(rows))
    alone = AugmentSpec(crop=Crop(padding=2)).build(0, lambda x: x)(batch, 1).images
    with_off = AugmentSpec(flip=Flip(p=0.0), crop=Crop(padding=2)).build(0, lambda x: x)
    assert torch.equal(with_off(batch, 1).images, alone)


def test_off_is_off(pictures: torch.Tensor) -> None:
    rows = torch.arange(len(pictures))
    batch = Batch(pictures, torch.zeros(len(rows)), rows, rows, len(rows))
    assert AugmentSpec().build(0, lambda x: x)(batch, 1).images is pictures
