"""Shapes, cost and receptive fields: by formula, against what really happens."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.inspection import formulas
from pellucid.inspection.receptive import Field
from pellucid.inspection.shapes import shapes
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.seeds import generator
from pellucid.views import shapes as view
from pellucid.views.options import Options
from pellucid.views.subject import Subject


def test_view_A1_sizes_and_receptive_fields_of_a_lenet() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)
    )  # fmt: skip
    rows = shapes(net, torch.zeros(1, 1, 28, 28)).rows
    assert [row.out[1] for row in rows] == [24, 12, 8, 4]
    fields = [row.seen for row in rows]
    assert all(isinstance(field, Field) for field in fields)
    assert [field.size[0] for field in fields if isinstance(field, Field)] == [5, 6, 14, 16]


def test_view_A1_of_the_mnist_cnn_adds_up() -> None:
    model = MnistCNN((1, 28, 28), 10)
    found = shapes(model, torch.zeros(1, 1, 28, 28))
    assert not any(row.wrong for row in found.rows)
    assert sum(row.parameters for row in found.rows) == 421_642
    by_hand = 28 * 28 * 9 * 32 + 14 * 14 * 9 * 32 * 64 + 3136 * 128 + 128 * 10
    assert sum(row.macs for row in found.rows) == by_hand
    conv1 = found.rows[0]
    assert conv1.formula == "floor((28 + 2*1 - 1*(3 - 1) - 1)/1) + 1 = 28"


CONVOLUTIONS = [
    nn.Conv2d(3, 4, 3),
    nn.Conv2d(3, 4, (3, 5), padding=(1, 2), stride=(2, 1)),
    nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=2),
    nn.Conv2d(3, 4, 4, padding="same"),
    nn.Conv2d(3, 4, 3, padding="valid"),
    nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.MaxPool2d(3, 2, padding=1, dilation=1),
    nn.MaxPool2d(2, dilation=3),
    nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
    nn.AvgPool2d(2),
    nn.AdaptiveAvgPool2d((3, 2)),
    nn.AdaptiveMaxPool2d((None, 4)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("size", [(11, 11), (12, 9), (7, 10)])
def test_view_A1_a_formula_gives_the_shape_that_the_layer_gives(
    layer: nn.Module, size: tuple[int, int]
) -> None:
    channels = layer.in_channels if isinstance(layer, nn.Conv2d) else 3
    image = torch.randn(1, channels, *size, generator=generator(0, "x"))
    rows = shapes(layer, image).rows
    assert rows[-1].out == tuple(layer(image).shape[1:])
    assert all(row.predicted == row.out for row in rows)


class Loops(nn.Module):
    """A convolution and a linear layer in plain Python, which counts its multiplications."""

    def __init__(self, conv: nn.Conv2d, linear: nn.Linear) -> None:
        super().__init__()
        self.conv, self.linear, self.count = conv, linear, 0

    def forward(self, x: Tensor) -> list[float]:
        weight, pad = self.conv.weight.tolist(), int(self.conv.padding[0])
        image = F.pad(x[0], (pad,) * 4).tolist()
        stride, groups = int(self.conv.stride[0]), self.conv.groups
        flat = []
        for k, kernel in enumerate(weight):
            first = k // (len(weight) // groups) * len(kernel)
            for y in range(0, len(image[0]) - len(kernel[0]) + 1, stride):
                for z in range(0, len(image[0][0]) - len(kernel[0][0]) + 1, stride):
                    total = 0.0
                    for c, plane in enumerate(kernel):
                        for i, row in enumerate(plane):
                            for j, w in enumerate(row):
                                total += w * image[first + c][y + i][z + j]
                                self.count += 1
                    flat.append(total)
        out = []
        for row in self.linear.weight.tolist():
            out.append(sum(w * v for w, v in zip(row, flat, strict=True)))
            self.count += len(row)
        return out


def test_view_A1_macs_are_those_of_a_naive_loop() -> None:
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    linear = nn.Linear(54, 5, bias=False)
    net = nn.Sequential(conv, nn.Flatten(), linear)
    image = torch.randn(1, 4, 5, 5, generator=generator(0, "x"))
    loops = Loops(conv, linear)
    values = loops(image)
    assert torch.allclose(net(image)[0], torch.tensor(values), atol=1e-5)
    assert sum(row.macs for row in shapes(net, image).rows) == loops.count


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(torch.relu(self.one(x.flatten(1))))
        return out


def test_view_A1_tied_weights_count_once_and_unused_ones_are_named() -> None:
    model = Tied()
    found = shapes(model, torch.zeros(1, 1, 2, 3))
    assert [row.parameters for row in found.rows if row.parameters] == [42, 6]
    assert found.parameters == sum(p.numel() for p in model.parameters()) == 54
    assert [name for name, _ in found.unused] == ["spare.weight", "spare.bias"]


def test_view_A1_a_mismatch_is_explained_where_it_breaks() -> None:
    model = MnistCNN((1, 28, 28), 10)
    broken = shapes(model, torch.zeros(1, 1, 20, 20)).broken
    assert broken is not None
    assert broken.name == "fc1"
    assert broken.reason == "it is built for 3136 numbers and gets 1600 = 64*5*5"
    assert broken.advice == "build it with in_features=1600"
    fitting = nn.Linear(1600, 128)
    model.fc1 = fitting
    assert shapes(model, torch.zeros(1, 1, 20, 20)).broken is None
    wrong = shapes(model, torch.zeros(1, 3, 20, 20)).broken
    assert wrong is not None
    assert wrong.advice == "build it with in_channels=3"
    small = shapes(nn.MaxPool2d(5), torch.zeros(1, 1, 3, 3)).broken
    assert small is not None
    assert "smaller than the window" in small.reason


def test_view_A1_kept_bytes_are_those_that_autograd_saves() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    rows = shapes(net, torch.zeros(1, 1, 4, 4)).rows
    # the image for the gradient of the first weights; the output of ReLU, which the linear layer
    # shares; nothing for a convolution's own output
    assert [row.kept for row in rows] == [64, 32, 0, 0]


def test_view_A1_mutant_a_wrong_formula_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.of(MnistCNN((1, 28, 28), 10), shape=(1, 28, 28))
    assert view.compute(subject, Options()).ok

    def without_padding(self: formulas.Window, axis: int, length: int) -> int:
        return math.floor((length - self.kernel[axis]) / self.stride[axis]) + 1

    monkeypatch.setattr(formulas.Window, "size", without_padding)
    data = view.compute(subject, Options())
    assert not data.ok
    assert "DOES NOT HOLD" in data.proofs[0].line
