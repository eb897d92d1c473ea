"""Where the pixels go: each image is moved as its twin moves it alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import stats
from torch import Tensor

from pellucid.augment.geometry import Crop, Flip, Rotate, Scale, Translate, affine
from pellucid.seeds import generator
from tests.augment import twin

TOLERANCE = 0.01
"""Grey levels of 255. Both sample at places that differ by rounding, about 0.001 levels."""

COLOUR = (3, 32, 32)


def draws(seed: int = 0) -> torch.Generator:
    return generator(seed, "test")


def test_flip_is_pillows_mirror(digits: Tensor) -> None:
    draw = Flip(p=0.5).draw(len(digits), (1, 28, 28), draws())
    flipped = Flip().apply(digits, draw)
    assert 0 < int(draw.sum()) < len(draw)
    for before, after, mirrored in zip(digits, flipped, draw, strict=True):
        picture = Image.fromarray(before[0].numpy())
        expected = ImageOps.mirror(picture) if mirrored else picture
        assert np.array_equal(after[0].numpy(), np.asarray(expected))


def test_flip_is_the_twins(pictures: Tensor) -> None:
    draw = Flip().draw(len(pictures), (3, 32, 32), draws())
    for before, after, mirrored in zip(pictures, Flip().apply(pictures, draw), draw, strict=True):
        assert torch.equal(after, twin.F.horizontal_flip(before) if mirrored else before)


def test_crop_is_padding_with_black_and_cutting_out(pictures: Tensor) -> None:
    crop = Crop(padding=3)
    draw = crop.draw(len(pictures), COLOUR, draws())
    height, width = pictures.shape[2:]
    assert len(draw.unique(dim=0)) > 20
    cropped = crop.apply(pictures, draw)
    for before, after, (top, left) in zip(pictures, cropped, draw.tolist(), strict=True):
        padded = twin.F.pad(before, [3], fill=0)
        assert torch.equal(after, twin.F.crop(padded, top, left, height, width))


def test_rotation_is_the_twins(pictures: Tensor) -> None:
    degrees = Rotate(degrees=180).draw(len(pictures), COLOUR, draws())
    size = len(pictures)
    turned = affine(pictures.float(), degrees, torch.zeros(size, 2), torch.ones(size))
    for before, after, angle in zip(pictures, turned, degrees.tolist(), strict=True):
        expected = 255 * twin.F.rotate(before.float() / 255, angle, interpolation=twin.BILINEAR)
        assert (after - expected).abs().max() < TOLERANCE


def test_rotation_shift_and_zoom_are_the_twins_affine(pictures: Tensor) -> None:
    size, shape = len(pictures), tuple(pictures.shape[1:])
    degrees = Rotate(degrees=30).draw(size, shape, draws(1))
    shift = Translate(share=0.2).draw(size, shape, draws(2))
    scale = Scale(range=(0.7, 1.4)).draw(size, shape, draws(3))
    moved = affine(pictures.float(), degrees, shift, scale)
    for i in range(size):
        expected = 255 * twin.F.affine(
            pictures[i].float() / 255,
            angle=-float(degrees[i]),  # theirs is clockwise here, and counter-clockwise in `rotate`
            translate=[int(pixels) for pixels in shift[i]],
            scale=float(scale[i]),
            shear=[0.0],
            interpolation=twin.BILINEAR,
        )
        assert (moved[i] - expected).abs().max() < TOLERANCE


def test_a_rectangle_is_turned_as_the_twin_turns_it(photos: Tensor) -> None:
    """Width and height are not mixed up."""
    wide = photos[:8, :, :20]
    size = len(wide)
    degrees, shift = torch.linspace(-60, 60, size), torch.tensor([[3.0, -2.0]]).expand(size, 2)
    moved = affine(wide.float(), degrees, shift, torch.ones(size))
    for i in range(size):
        expected = 255 * twin.F.affine(
            wide[i].float() / 255, -float(degrees[i]), [3, -2], 1.0, [0.0], twin.BILINEAR
        )
        assert (moved[i] - expected).abs().max() < TOLERANCE


def test_a_quarter_turn_is_exact(photos: Tensor) -> None:
    size = len(photos)
    turned = affine(
        photos.float(), torch.full((size,), 90.0), torch.zeros(size, 2), torch.ones(size)
    )
    assert (turned - photos.rot90(1, (2, 3))).abs().max() < TOLERANCE


def test_images_whose_draw_is_the_identity_keep_their_bits(photos: Tensor) -> None:
    """Of a size at which sampling in place would not."""
    images = photos[:, :, :31, :29].float()
    degrees = torch.zeros(len(images))
    degrees[::2] = 10
    moved = affine(images.clone(), degrees, torch.zeros(len(images), 2), torch.ones(len(images)))
    assert torch.equal(moved[1::2], images[1::2])
    assert all(not torch.equal(a, b) for a, b in zip(moved[::2], images[::2], strict=True))


def test_what_comes_in_is_black(photos: Tensor) -> None:
    white = torch.full_like(photos[:8], 255)
    size = len(white)
    shifted = affine(
        white.float(), torch.zeros(size), torch.tensor([[5.0, 0.0]]).expand(size, 2),
        torch.ones(size),
    )  # fmt: skip
    assert shifted[..., :4].max() < TOLERANCE
    assert shifted[..., 6:].min() > 255 - TOLERANCE
    corner = Crop(padding=4).apply(white, torch.zeros(size, 2, dtype=torch.int64))
    assert corner[:, :, :4].max() == corner[:, :, :, :4].max() == 0
    assert corner[:, :, 4:, 4:].min() == 255


def test_every_shift_of_a_crop_is_drawn_about_equally_often() -> None:
    draw = Crop(padding=1).draw(9000, COLOUR, draws())
    counts = torch.bincount(draw[:, 0] * 3 + draw[:, 1], minlength=9)
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize(
    ("operation", "low", "high"),
    [(Rotate(degrees=15), -15, 15), (Scale(range=(0.8, 1.3)), 0.8, 1.3)],
)
def test_angles_and_factors_are_drawn_evenly(
    operation: Rotate | Scale, low: float, high: float
) -> None:
    draw = operation.draw(5000, COLOUR, draws()).numpy()
    assert stats.kstest(draw, "uniform", (low, high - low)).pvalue > 0.001
    assert low <= draw.min() < draw.max() <= high


def test_shifts_are_whole_pixels_up_to_the_share() -> None:
    draw = Translate(share=0.25).draw(5000, (3, 16, 32), draws())
    assert torch.equal(draw, draw.round())
    assert draw.abs().amax(0).tolist() == [8, 4]
    assert draw.mean(0).abs().max() < 0.2


def test_flips_are_drawn_with_their_probability() -> None:
    hits = int(Flip(p=0.3).draw(5000, COLOUR, draws()).sum())
    assert stats.binomtest(hits, 5000, 0.3).pvalue > 0.001
