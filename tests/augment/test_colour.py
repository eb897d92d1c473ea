"""Light and colour: each image is changed as its twin changes it alone."""

from __future__ import annotations

import colorsys

import pytest
import torch
from scipy import stats
from torch import Tensor

from pellucid.augment.colour import Brightness, Contrast, Greyscale, Hue, Saturation, turn_hue
from pellucid.seeds import generator
from tests.augment import twin

TOLERANCE = 0.005
"""Grey levels of 255. Theirs works on the scale 0 to 1; rounding alone gives about 0.0003."""

COLOUR = (3, 32, 32)


def draws() -> torch.Generator:
    return generator(0, "test")


def strongest(operation: type) -> Tensor:
    """Sixty factors between the bounds, the bounds themselves among them."""
    strength = 0.5 if operation is Hue else 1.0
    centre = 0.0 if operation is Hue else 1.0
    return torch.linspace(centre - strength, centre + strength, 60)


TWINS = [
    (Brightness, "adjust_brightness"), (Contrast, "adjust_contrast"),
    (Saturation, "adjust_saturation"), (Hue, "adjust_hue"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "name"), TWINS)
@pytest.mark.parametrize("images", ["photos", "large"])
def test_colours_are_the_twins(
    operation: type, name: str, images: str, request: pytest.FixtureRequest
) -> None:
    pictures: Tensor = request.getfixturevalue(images)
    draw = strongest(operation)
    changed = operation().apply(pictures.float(), draw)
    for before, after, factor in zip(pictures, changed, draw.tolist(), strict=True):
        expected = 255 * getattr(twin.F, name)(before.float() / 255, factor)
        assert (after - expected).abs().max() < TOLERANCE
        assert (after - before).abs().max() > TOLERANCE or factor in (0, 1)


@pytest.mark.parametrize(("operation", "name"), TWINS[:2])
def test_grey_images_have_brightness_and_contrast(
    operation: type, name: str, digits: Tensor
) -> None:
    draw = torch.linspace(0, 2, len(digits))
    changed = operation().apply(digits.float(), draw)
    for before, after, factor in zip(digits, changed, draw.tolist(), strict=True):
        expected = 255 * getattr(twin.F, name)(before.float() / 255, factor)
        assert (after - expected).abs().max() < TOLERANCE


def test_hue_of_every_kind_of_pixel() -> None:
    """Greys, pure colours, two channels equal, and what lies between, against Python's own."""
    steps = torch.tensor([0.0, 1, 64, 127, 128, 200, 254, 255])
    pixels = torch.cartesian_prod(steps, steps, steps)  # (512, 3)
    images = pixels.T.reshape(1, 3, 16, 32)
    for turn in (-0.5, -1 / 3, -0.1, 0.01, 1 / 6, 0.25, 0.5):
        turned = turn_hue(images, torch.full((1, 1, 1, 1), turn)).reshape(3, -1).T
        for before, after in zip(pixels.tolist(), turned.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*(x / 255 for x in before))
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            assert after == pytest.approx([255 * x for x in expected], abs=TOLERANCE)


def test_hue_leaves_what_is_not_turned_alone(photos: Tensor) -> None:
    draw = torch.zeros(len(photos))
    draw[::2] = 0.2
    turned = Hue().apply(photos.float(), draw)
    assert torch.equal(turned[1::2], photos[1::2].float())
    assert all(not torch.equal(a, b) for a, b in zip(turned[::2], photos[::2].float(), strict=True))


def test_greyscale_is_the_twins(photos: Tensor) -> None:
    draw = Greyscale(p=0.5).draw(len(photos), COLOUR, draws())
    assert 0 < int(draw.sum()) < len(draw)
    grey = Greyscale().apply(photos.float(), draw)
    for before, after, hit in zip(photos, grey, draw, strict=True):
        if hit:
            expected = 255 * twin.F.rgb_to_grayscale(before.float() / 255, 3)
            assert (after - expected).abs().max() < TOLERANCE
            assert torch.equal(after[0], after[1])
            assert torch.equal(after[0], after[2])
        else:
            assert torch.equal(after, before.float())


@pytest.mark.parametrize("operation", [Brightness, Contrast, Saturation])
def test_factors_are_drawn_evenly_around_1(operation: type) -> None:
    draw = operation(strength=0.4).draw(5000, COLOUR, draws()).numpy()
    assert stats.kstest(draw, "uniform", (0.6, 0.8)).pvalue > 0.001
    assert 0.6 <= draw.min() < draw.max() <= 1.4


def test_turns_are_drawn_evenly_around_0() -> None:
    draw = Hue(strength=0.1).draw(5000, COLOUR, draws()).numpy()
    assert stats.kstest(draw, "uniform", (-0.1, 0.2)).pvalue > 0.001
    assert (
        stats.binomtest(int(Greyscale(p=0.2).draw(5000, COLOUR, draws()).sum()), 5000, 0.2).pvalue
        > 0.001
    )


def test_values_stay_on_the_scale(photos: Tensor) -> None:
    images = photos.float()
    for operation in (Brightness, Contrast, Saturation, Hue):
        images = operation().apply(images, strongest(operation).flip(0))
    assert float(images.min()) >= 0
    assert float(images.max()) <= 255
