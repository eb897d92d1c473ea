"""Filters: directions, structure against chance, kinds."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from pellucid.figures.filters import draw_filters
from pellucid.inspection import filters as module
from pellucid.inspection.filters import (
    cosines,
    measure_filters,
    near_duplicates,
    shuffled,
    structure,
)
from pellucid.inspection.kinds import kinds, parts_of
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.seeds import generator
from pellucid.views import filters as view
from pellucid.views.options import Options
from pellucid.views.subject import Subject

SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def random_filters(n: int, size: int = 3, channels: int = 1) -> Tensor:
    return torch.randn(n, channels, size, size, generator=generator(0, "filters"))


def grating(degrees: float, size: int, cycles: float, phase: float) -> Tensor:
    """A wave whose stripes run at this angle, counter-clockwise from horizontal."""
    y = torch.arange(size).double() - (size - 1) / 2
    along_y, along_x = torch.meshgrid(y, y, indexing="ij")
    angle = math.radians(degrees)
    across = along_x * math.sin(angle) + along_y * math.cos(angle)
    return torch.cos(2 * math.pi * cycles / size * across + phase)[None, None]


@pytest.mark.parametrize("size", [7, 11, 16])
@pytest.mark.parametrize("degrees", range(0, 180, 15))
def test_view_A2_the_angle_of_a_grating_is_found(size: int, degrees: int) -> None:
    for cycles in (1.5, 2.0, 2.5):
        for phase in (0.0, 0.7, math.pi / 2):
            found = measure_filters(grating(degrees, size, cycles, phase), shuffles=1)
            error = abs(float(found.angle[0]) - degrees) % 180
            assert min(error, 180 - error) < 5, (size, degrees, cycles, phase)


def test_view_A2_parseval_holds_and_no_direction_is_no_number() -> None:
    found = measure_filters(random_filters(50, 5, 3), shuffles=1)
    assert float(found.parseval.max()) < 1e-6
    flat = measure_filters(torch.ones(1, 1, 3, 3), shuffles=1)
    assert math.isnan(float(flat.angle[0]))
    assert float(flat.total[0]) == 9
    assert float(flat.norm[0]) == 3


def test_view_A2_p_values_of_random_filters_are_uniform() -> None:
    p = structure(random_filters(400, 5))
    assert scipy.stats.kstest(p.numpy(), "uniform").pvalue > 0.01
    assert 0.02 < float((p < 0.05).double().mean()) < 0.09


def test_view_A2_a_sobel_filter_has_structure_and_a_shuffled_one_none() -> None:
    every = torch.stack([SOBEL, SOBEL.T, -SOBEL])[:, None]
    assert float(structure(every).max()) < 0.05
    blocks = torch.ones(5, 5)
    blocks[:, 3:] = -1
    assert float(structure(blocks[None, None])[0]) < 0.01
    mixed = shuffled(blocks.expand(20, 1, 5, 5).contiguous())
    assert int((structure(mixed) < 0.05).sum()) <= 3


def test_view_A2_shuffling_keeps_the_weights_of_each_filter() -> None:
    w = random_filters(6, 3, 2)
    other = shuffled(w)
    assert not torch.equal(w, other)
    assert torch.equal(w.flatten(2).sort(2).values, other.flatten(2).sort(2).values)


def test_view_A2_cosine_and_near_duplicates() -> None:
    w = random_filters(4)
    w[3] = -2 * w[1]
    assert near_duplicates(w) == [(1, 3, pytest.approx(-1.0))]
    assert cosines(w, 3 * w).tolist() == pytest.approx([1.0] * 4)


def test_view_A2_every_cell_is_its_weight_on_one_symmetric_scale() -> None:
    subject = Subject.of(MnistCNN((1, 28, 28), 10), shape=(1, 28, 28))
    data = view.compute(subject, Options())
    assert data.ok
    limits = set()
    figure = draw_filters(data)
    images = [i for s in figure.subfigs for a in s.axes for i in a.images]
    weights = subject.model.conv1.weight.detach()  # type: ignore[union-attr]
    for image in images:
        limits.add(image.get_clim())
    largest = float(weights.abs().max())  # type: ignore[operator]
    assert limits == {(-largest, largest)}
    cells = torch.tensor(images[0].get_array().filled(math.nan))
    shown = cells[~cells.isnan()]
    assert torch.equal(shown.sort().values, weights.flatten().sort().values)  # type: ignore[operator]


def test_view_A2_mutant_a_scale_for_each_filter_does_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = Subject.of(MnistCNN((1, 28, 28), 10), shape=(1, 28, 28))

    def by_itself(model: object, image: object) -> module.First:
        first = module.first_filters(model, image)  # type: ignore[arg-type]
        own = first.weights.abs().amax((1, 2, 3), keepdim=True)
        return module.First(first.layer, first.parameter, first.weights / own, first.over_pixels)

    monkeypatch.setattr(view, "first_filters", by_itself)
    assert not view.compute(subject, Options()).ok


def test_view_A2_mutant_a_spectrum_that_loses_power_does_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = Subject.of(MnistCNN((1, 28, 28), 10), shape=(1, 28, 28))
    plain = torch.fft.fft2
    monkeypatch.setattr(torch.fft, "fft2", lambda x, s: plain(x[..., :2, :2], s=s))
    assert not view.compute(subject, Options()).ok


def line(kind: str) -> Tensor:
    """A bright line through the middle of 5x5 cells."""
    y = torch.arange(5.0) - 2
    down, right = torch.meshgrid(y, y, indexing="ij")
    apart = {
        "horizontal": down, "vertical": right, "diagonal \\": (down - right) / 2**0.5,
        "diagonal /": (down + right) / 2**0.5,
    }[kind]  # fmt: skip
    values = torch.exp(-(apart**2))
    return (values - values.mean())[None, None]


EDGES = {
    "vertical edge": SOBEL, "horizontal edge": SOBEL.T,
    "diagonal / edge": torch.tensor([[2.0, 1, 0], [1, 0, -1], [0, -1, -2]]),
    "diagonal \\ edge": torch.tensor([[0.0, 1, 2], [-1, 0, 1], [-2, -1, 0]]),
}  # fmt: skip


@pytest.mark.parametrize("words", EDGES)
def test_view_ND10_edges_are_named_with_their_direction(words: str) -> None:
    noise = 0.05 * random_filters(1)[0, 0]
    assert kinds((EDGES[words] + noise)[None, None]).words == (words,)


@pytest.mark.parametrize("kind", ["horizontal", "vertical", "diagonal /", "diagonal \\"])
def test_view_ND10_lines_are_named_with_their_direction(kind: str) -> None:
    assert kinds(line(kind) + 0.05 * random_filters(1, 5)).words == (f"{kind} line",)


def test_view_ND10_spots_rings_blur_and_noise() -> None:
    y = torch.arange(5.0) - 2
    spot = torch.exp(-(y[:, None] ** 2 + y[None] ** 2) / 2)
    w = torch.stack([spot - spot.mean(), spot.mean() - spot, torch.ones(5, 5)])[:, None]
    found = kinds(w + 0.02 * random_filters(3, 5))
    assert found.words == ("spot (bright centre)", "ring (dark centre)", "blur")
    chance = kinds(random_filters(300, 5)).kind
    assert sum(kind != "none" for kind in chance) < 300 * 0.09


def test_view_ND10_shares_add_up_to_the_power() -> None:
    w = random_filters(20, 4, 3)
    whole, parts = parts_of(w)
    assert torch.allclose(whole, parts, rtol=1e-12)
    assert torch.allclose(kinds(w, shuffles=9).shares.sum(1), torch.ones(20).double())


def test_view_ND10_mutant_patterns_that_are_not_of_length_1_do_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pellucid.inspection import kinds as kinds_module

    subject = Subject.of(MnistCNN((1, 28, 28), 10), shape=(1, 28, 28))
    assert view.compute_kinds(subject, Options()).ok
    plain = kinds_module._basis

    def longer(height: int, width: int) -> object:
        basis, groups = plain(height, width)
        return 1.1 * basis, groups

    monkeypatch.setattr(kinds_module, "_basis", longer)
    assert not view.compute_kinds(subject, Options()).ok
