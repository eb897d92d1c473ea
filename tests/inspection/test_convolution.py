"""One value of a map is the sum of its cells, for every kind of convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.data.digits import Digits
from pellucid.inspection import convolution as module
from pellucid.inspection.convolution import cells, convolutions, naive
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.seeds import generator
from pellucid.viewdata import DoesNotApply
from pellucid.views import microscope as view
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject

LAYERS = [
    nn.Conv2d(3, 4, 3, padding=1),
    nn.Conv2d(3, 4, (3, 5), padding=(0, 2), stride=(2, 1)),
    nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=2),
    nn.Conv2d(4, 4, 3, groups=4, padding=1, bias=False),
    nn.Conv2d(3, 4, 4, padding="same"),
    nn.Conv2d(3, 4, 1),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_view_A5_cells_add_up_to_every_value_and_to_plain_loops(layer: nn.Conv2d) -> None:
    x = torch.randn(1, layer.in_channels, 7, 8, generator=generator(0, "x"))
    found = convolutions(layer, x)[0]
    for unit in range(found.out.shape[0]):
        for y in range(found.out.shape[1]):
            for z in range(found.out.shape[2]):
                one = cells(found, unit, (y, z))
                scale = float(one.products.abs().sum()) + 1e-6
                assert abs(one.total - one.value) / scale < 1e-5
                if unit == y == 0:
                    assert one.total == pytest.approx(naive(found, unit, (y, z)), abs=1e-9)


def test_view_A5_a_padded_cell_is_0_whatever_lies_at_the_edge() -> None:
    found = convolutions(nn.Conv2d(1, 1, 3, padding=1), torch.full((1, 1, 4, 4), 7.0))[0]
    corner = cells(found, 0, (0, 0))
    assert corner.padded.sum() == 5
    assert bool((corner.patch[0][corner.padded] == 0).all())
    assert bool((corner.patch[0][~corner.padded] == 7).all())


class InPlace(nn.Module):
    """The input of the second convolution is changed in place afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x), inplace=True)
        y = self.two(x)
        x.zero_()
        out: Tensor = F.relu(y, inplace=True).mean((2, 3)) + x.mean()
        return out


def test_view_A5_values_are_those_before_anything_changed_them_in_place() -> None:
    torch_net = InPlace()
    found = convolutions(torch_net, torch.randn(1, 1, 8, 8, generator=generator(0, "x")))
    assert [layer.name for layer in found] == ["one", "two"]
    for layer in found:
        assert float(layer.out.min()) < 0  # before ReLU
        one = cells(layer, 1, (2, 1))
        assert one.total == pytest.approx(one.value, abs=1e-5)
        assert layer.after is not None
        assert torch.equal(layer.after[1], layer.out.clamp_min(0))


def subject() -> Subject:
    return Subject.of(MnistCNN((1, 28, 28), 10), Digits().load().train.part(torch.arange(5)))


def test_view_A5_by_default_the_strongest_place_and_names_for_what_is_not_there() -> None:
    data = view.compute(subject(), Options())
    assert data.numbers["value"] == float(data.numbers["map"].max())
    assert sum(v for n, v in data.numbers["bars"] if n not in ("sum",)) == pytest.approx(
        data.numbers["total"]
    )
    with pytest.raises(BadOption, match="There are: conv1, conv2"):
        view.compute(subject(), Options(layer="conv3"))
    with pytest.raises(BadOption, match="0 to 31"):
        view.compute(subject(), Options(unit=32))
    with pytest.raises(BadOption, match="has no row 28"):
        view.compute(subject(), Options(place=(28, 0)))
    with pytest.raises(DoesNotApply, match="no 2-d convolution"):
        view.compute(Subject.of(nn.Flatten(), Digits().load().train), Options())


def test_view_A5_padding_is_told_in_pixels() -> None:
    note = view.compute(subject(), Options(place=(0, 0))).notes[0]
    assert note.startswith("5 cells of the patch lie in the padding")


def test_view_A5_mutant_a_flipped_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.cells

    def flipped(layer: module.Convolution, unit: int, place: tuple[int, int]) -> module.Cells:
        found = plain(layer, unit, place)
        kernel = found.kernel.flip((1, 2))
        return module.Cells(
            found.channels, found.patch, kernel, found.padded, found.bias, found.value
        )

    monkeypatch.setattr(view, "cells", flipped)
    assert not view.compute(subject(), Options()).ok


def test_view_A5_mutant_the_patch_one_row_off(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module._cover
    monkeypatch.setattr(module, "_cover", lambda s, a, at: [i + 1 for i in plain(s, a, at)])
    assert not view.compute(subject(), Options(layer="conv2", place=(5, 5))).ok
