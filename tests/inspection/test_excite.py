"""Which kernels a digit excites, and drawings that are prepared as MNIST was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pellucid.data.digits import Digits
from pellucid.errors import BadData
from pellucid.inspection import convolution
from pellucid.inspection.drawing import NoInk, prepare_drawing
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.simple_cnn import SimpleCNN
from pellucid.seeds import reseed
from pellucid.viewdata import DoesNotApply
from pellucid.views import excite as view
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject


def subject(model: MnistCNN | None = None) -> Subject:
    reseed(0, "init")
    data = Digits().load().train.part(torch.arange(0, 5000, 25))
    return Subject.of(model or MnistCNN((1, 28, 28), 10), data)


def test_view_A4_the_value_at_the_best_place_is_kernel_times_patch_plus_bias() -> None:
    one = subject()
    data = view.compute(one, Options(on="validation", index=3))
    assert data.ok
    model = one.model
    assert isinstance(model, MnistCNN)
    for best in data.numbers["top"]:
        weight = model.conv1.weight[best["unit"]].detach().double()
        bias = float(model.conv1.bias.detach()[best["unit"]])  # type: ignore[index]
        total = float((weight * best["patch"]).sum()) + bias
        assert total == pytest.approx(float(best["map"].max()), abs=1e-5) or best["value"] < 0


@pytest.mark.parametrize("alpha", [0.01, 0.5, 7.0, 1000.0])
def test_view_A4_the_z_ranking_does_not_change_when_a_filter_is_scaled(alpha: float) -> None:
    one = subject()
    before = view.compute(one, Options(count=60))
    model = one.model
    assert isinstance(model, MnistCNN)
    last = before.numbers["ranking"][-1]
    with torch.no_grad():
        model.conv1.weight[last] *= alpha
        model.conv1.bias[last] *= alpha  # type: ignore[index]
    after = view.compute(one, Options(count=60))
    assert after.numbers["ranking"] == before.numbers["ranking"]
    if alpha == 1000:  # the other two scores do change: that is why they do not rank
        assert int(after.numbers["mean"].argmax()) == last


def test_view_A4_z_over_the_images_themselves_has_mean_0_and_spread_1() -> None:
    one = subject()
    scores = torch.stack(
        [view.compute(one, Options(index=i, count=200)).numbers["z"] for i in range(0, 200, 4)]
    )
    assert float(scores.mean(0).abs().max()) < 0.4  # a quarter of the images
    assert 0.6 < float(scores.std(0).mean()) < 1.4


def test_view_A4_a_kernel_that_leads_and_hardly_responds_is_named() -> None:
    one = subject()
    before = view.compute(one, Options(count=40))
    assert not any("thousandth" in note for note in before.notes)
    first = before.numbers["ranking"][0]
    with torch.no_grad():
        one.model.conv1.weight[first] *= 1e-6  # type: ignore[operator, index, union-attr]
        one.model.conv1.bias[first] *= 1e-6  # type: ignore[operator, index, union-attr]
    after = view.compute(one, Options(count=40))
    assert after.numbers["ranking"][0] == first
    assert after.notes[-1].startswith(f"Kernel {first}: less than a thousandth")


def test_view_A4_mutant_ranking_by_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.inspection import excite

    one = subject()
    model = one.model
    assert isinstance(model, MnistCNN)
    monkeypatch.setattr(
        excite.Excitement, "ranking",
        lambda self: self.mean.argsort(descending=True, stable=True).tolist(),
    )  # fmt: skip
    assert not view.compute(one, Options()).ok


def test_view_A4_mutant_a_patch_without_its_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = convolution.cells
    monkeypatch.setattr(
        view, "cells",
        lambda *a: type(c := plain(*a))(c.channels, c.patch, c.kernel, c.padded, 0.0, c.value),
    )  # fmt: skip
    assert not view.compute(subject(), Options()).ok


def test_view_A4_digits_that_are_drawn_come_back_nearly_as_they_were() -> None:
    """Each digit laid large on a canvas, off centre, dark on light: the pipeline undoes it."""
    data = Digits().load().test
    assert data is not None
    apart = []
    for i in range(0, 1000, 20):
        digit = data.images[i, 0]
        canvas = torch.full((40, 52), 255, dtype=torch.uint8)
        canvas[9:37, 20:48] = 255 - digit
        pixels = prepare_drawing(canvas).pixels
        apart.append(float((pixels.float() - digit.float()).abs().mean()))
    assert sorted(apart)[45] < 8, "nine in ten within 3 % of the grey scale"


@pytest.mark.parametrize("value", [0, 90, 255])
def test_view_A4_a_blank_canvas_is_no_digit(value: int) -> None:
    with pytest.raises(NoInk, match="no ink"):
        prepare_drawing(torch.full((50, 50), value, dtype=torch.uint8))


def test_view_A4_the_same_drawing_light_on_dark_is_the_same() -> None:
    canvas = Image.new("L", (200, 260), 255)
    ImageDraw.Draw(canvas).line([(60, 30), (140, 230)], fill=10, width=20)
    dark = torch.from_numpy(np.asarray(canvas).copy())
    one, other = prepare_drawing(dark).pixels, prepare_drawing(255 - dark).pixels
    assert torch.equal(one, other)
    rows = (one > 0).any(1).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 20
    mass = one.double()
    centre = float((mass.sum(1) * torch.arange(28)).sum() / mass.sum())
    assert 13 <= centre <= 14.6


def test_view_A4_drawings_and_images_that_cannot_be_used(tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("L", (50, 50), 255).save(blank)
    with pytest.raises(BadData, match="no ink"):
        view.compute(subject(), Options(drawing=blank))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(BadData, match="not an image"):
        view.compute(subject(), Options(image=text))
    with pytest.raises(BadData, match="No such file"):
        view.compute(subject(), Options(image=tmp_path / "none.png"))
    with pytest.raises(BadOption, match="not both"):
        view.compute(subject(), Options(image=blank, index=1))
    colour = Subject.of(SimpleCNN((3, 32, 32), 10), shape=(3, 32, 32), classes=("a",) * 10)
    with pytest.raises(DoesNotApply, match="3x32x32"):
        view.compute(colour, Options(drawing=blank))


def test_view_A4_an_image_of_another_size_or_mode_is_fitted(tmp_path: Path) -> None:
    file = tmp_path / "colour.png"
    Image.new("RGBA", (64, 40), (200, 30, 30, 255)).save(file)
    data = view.compute(subject(), Options(image=file))
    assert data.numbers["image"].shape == (1, 28, 28)
