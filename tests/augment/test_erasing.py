"""Parts are hidden: which, how often, and with what."""

from __future__ import annotations

import torch
from scipy import stats
from torch import Tensor

from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.pipeline import AugmentSpec
from pellucid.seeds import generator
from tests.augment import twin
from tests.augment.samples import batch_of, preprocessing_of

SHAPE = (3, 32, 24)


def draws() -> torch.Generator:
    return generator(0, "test")


def test_erasing_is_the_twins(pictures: Tensor) -> None:
    erase = Erase(p=0.6)
    shape = tuple(pictures.shape[1:])
    draw = erase.draw(len(pictures), shape, draws())
    assert 0 < int((draw[:, 2] > 0).sum()) < len(draw)
    normalised = preprocessing_of(pictures).on(torch.device("cpu"))(pictures)
    erased = erase.apply(normalised.clone(), draw)
    for before, after, box in zip(normalised, erased, draw.tolist(), strict=True):
        top, left, bottom, right = box
        mean = torch.zeros(len(before), 1, 1)
        assert torch.equal(after, twin.F.erase(before, top, left, bottom - top, right - left, mean))


def test_what_is_erased_is_the_mean_of_the_training_part(photos: Tensor) -> None:
    """It is 0 after normalisation, so the mean colour, not black."""
    preprocessing = preprocessing_of(photos)
    prepare = preprocessing.on(torch.device("cpu"))
    seen = AugmentSpec(cutout=Cutout(side=31)).build(0, prepare)(batch_of(photos), 0).images
    hidden = (seen == 0).all(1)
    assert hidden.any(2).any(1).all()
    mean = torch.tensor(preprocessing.mean).view(3, 1, 1) * 255
    assert prepare(mean.expand(1, 3, 2, 2)).abs().max() < 1e-5


def test_rectangles_have_their_probability_area_and_aspect() -> None:
    draw = Erase(p=0.3).draw(5000, SHAPE, draws())
    hit = draw[:, 2] > draw[:, 0]
    assert stats.binomtest(int(hit.sum()), 5000, 0.3).pvalue > 0.001
    top, left, bottom, right = draw[hit].double().unbind(1)
    tall, wide = bottom - top, right - left
    assert bool((top >= 0).all() & (left >= 0).all())
    assert bool((bottom <= 32).all() & (right <= 24).all())
    area = tall * wide / (32 * 24)
    assert 0.01 < float(area.min()) < 0.04  # to whole pixels
    assert 0.3 < float(area.max()) < 0.43
    assert 0.2 < float((tall / wide).min()) < 0.4
    assert 2.5 < float((tall / wide).max()) < 5


def test_log_of_the_aspect_is_drawn_evenly() -> None:
    """In a large image, where rounding to pixels does not show."""
    draw = Erase(p=1, area=(0.01, 0.02), aspect=(0.5, 2)).draw(3000, (3, 4000, 4000), draws())
    top, left, bottom, right = draw.double().unbind(1)
    aspect = ((bottom - top) / (right - left)).log2()
    assert stats.kstest(aspect.numpy(), "uniform", (-1, 2)).pvalue > 0.001
    area = (bottom - top) * (right - left) / 4000**2
    assert stats.kstest(area.numpy(), "uniform", (0.01, 0.01)).pvalue > 0.001


def test_places_are_drawn_evenly() -> None:
    draw = Erase(p=1, area=(0.01, 0.01), aspect=(1, 1)).draw(5000, (3, 40, 40), draws())
    assert set((draw[:, 2] - draw[:, 0]).tolist()) == {4}
    for side in (0, 1):
        counts = torch.bincount(draw[:, side], minlength=37)
        assert len(counts) == 37
        assert stats.chisquare(counts.numpy()).pvalue > 0.001


def test_a_rectangle_that_never_fits_is_left_out() -> None:
    draw = Erase(p=1, area=(0.9, 1.0), aspect=(50, 100)).draw(50, SHAPE, draws())
    assert not draw.any()


def test_cutout_is_a_square_around_any_pixel(photos: Tensor) -> None:
    for side in (1, 7, 8):
        draw = Cutout(side=side).draw(4000, (3, 32, 32), draws())
        top, left, bottom, right = draw.unbind(1)
        assert bool((top >= 0).all() & (bottom <= 32).all() & (bottom > top).all())
        assert bool((left >= 0).all() & (right <= 32).all() & (right > left).all())
        inner = (top > 0) & (bottom < 32)
        assert set((bottom - top)[inner].tolist()) == {side}
        centres = torch.where(top > 0, top + side // 2, bottom - side + side // 2)
        assert stats.chisquare(torch.bincount(centres, minlength=32).numpy()).pvalue > 0.001
    images = torch.ones(len(photos), 3, 32, 32)
    draw = Cutout(side=8).draw(len(photos), (3, 32, 32), draws())
    for image, box in zip(Cutout().apply(images, draw), draw.tolist(), strict=True):
        top, left, bottom, right = box
        assert float(image.sum()) == 3 * (32 * 32 - (bottom - top) * (right - left))
        assert not image[:, top:bottom, left:right].any()
