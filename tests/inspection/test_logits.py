"""Logits as sums: exact back to the maps, and to the pixels where all layers are linear."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.data.digits import Digits
from pellucid.inspection import logits as module
from pellucid.inspection.logits import logit_walk, softmax, unravel
from pellucid.inspection.templates import collapse, cosine_matrix, last_layer
from pellucid.models.mlp import MLP
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.resnet import ResNet
from pellucid.models.simple_cnn import SimpleCNN
from pellucid.seeds import generator
from pellucid.viewdata import DoesNotApply
from pellucid.views import logits as view
from pellucid.views.options import Options
from pellucid.views.subject import Subject


def image(*shape: int) -> Tensor:
    return torch.randn(1, *shape, generator=generator(0, "image"))


NETS = {
    "mnist-cnn": (lambda: MnistCNN((1, 28, 28), 10), (1, 28, 28), [(128, 1, 1), (64, 7, 7)]),
    "simple-cnn": (lambda: SimpleCNN((3, 32, 32), 10), (3, 32, 32), [(64, 1, 1), (64, 4, 4)]),
    "mlp": (lambda: MLP((1, 28, 28), 10), (1, 28, 28), [(200, 1, 1), (200, 1, 1), (1, 28, 28)]),
    "resnet": (lambda: ResNet((3, 32, 32), 10, depth=8), (3, 32, 32), [(64, 1, 1)]),
}


@pytest.mark.parametrize("name", NETS)
def test_view_A7_contributions_add_up_to_the_logits_at_each_hop(name: str) -> None:
    build, shape, expected = NETS[name]
    model = build().eval()
    x = image(*shape)
    walk = logit_walk(model, x)
    assert [tuple(hop.maps.shape) for hop in walk.hops] == expected
    for hop in walk.hops:
        total = hop.contributions.flatten(1).sum(1) + hop.bias
        assert float((total - model(x)[0].detach()).abs().max()) < 1e-4
        by_channel = hop.contributions.sum((2, 3)).sum(1)
        by_place = hop.contributions.sum(1).sum((1, 2))
        assert torch.allclose(by_channel, by_place)


def test_view_A7_maps_are_those_that_enter_the_layer() -> None:
    model = MnistCNN((1, 28, 28), 10).eval()
    x = image(1, 28, 28)
    maps = F.relu(model.pool(model.conv2(F.relu(model.pool(model.conv1(x))))))[0]
    assert torch.equal(logit_walk(model, x).hops[1].maps, maps.detach().double())


def test_view_A7_an_index_is_channel_then_row_then_column() -> None:
    shape = (4, 3, 5)
    values = torch.arange(60).reshape(shape)
    assert all(int(values[unravel(i, shape)]) == i for i in range(60))


def test_view_A7_the_notes_example() -> None:
    """Features (0.8, 0.2, 0.1), three classes: 0.670, 0.130, -0.080."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False))
    weights = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.2, 0.1], [-0.2, 0.3, 0.2]])
    net[1].weight.data.copy_(weights)
    walk = logit_walk(net, torch.tensor([0.8, 0.2, 0.1]).reshape(1, 3, 1, 1))
    expected = weights.double() @ torch.tensor([0.8, 0.2, 0.1]).double()
    assert torch.allclose(walk.hops[0].contributions.flatten(1).sum(1), expected, atol=1e-6)
    assert [round(v, 2) for v in expected.tolist()] == [0.67, 0.13, -0.08]


def test_view_A7_softmax_is_stable_sums_to_1_and_ignores_a_common_vector() -> None:
    values = torch.tensor([1000.0, 998.0, -1000.0]).double()
    assert torch.allclose(softmax(values), values.softmax(0))
    assert abs(float(softmax(values).sum()) - 1) < 1e-12
    w, h = torch.randn(10, 64).double(), torch.randn(64).double()
    shift = torch.randn(64).double()
    assert torch.allclose(softmax((w + shift) @ h), softmax(w @ h), atol=1e-12)


class EndsInMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


def test_view_A7_says_why_where_the_last_layer_is_not_linear() -> None:
    with pytest.raises(DoesNotApply, match="ends in mean"):
        logit_walk(EndsInMean(), image(1, 8, 8))


def subject() -> Subject:
    data = Digits().load().train.part(torch.arange(3))
    return Subject.of(MnistCNN((1, 28, 28), 10), data)


def test_view_A7_reasons_are_the_largest_and_add_up() -> None:
    data = view.compute(subject(), Options(target="7", against="1", count=3136))
    assert data.ok
    deep = data.numbers["hops"][-1]["reasons"]
    values = [reason["contribution"] for reason in deep]
    assert values == sorted(values, reverse=True)
    total = sum(values) + float(data.numbers["difference_bias"])
    logits = data.numbers["logits"]
    assert total == pytest.approx(float(logits[7] - logits[1]), abs=1e-4)
    bars = sum(value for _, value in data.numbers["difference_bars"])
    assert bars == pytest.approx(total, abs=1e-9)


def test_view_A7_mutant_softmax_instead_of_the_logit(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.logit_walk

    def of_softmax(model: nn.Module, x: Tensor) -> module.Walk:
        walk = plain(model, x)
        return module.Walk(softmax(walk.logits), walk.hops)

    monkeypatch.setattr(view, "logit_walk", of_softmax)
    assert not view.compute(subject(), Options()).ok


def test_view_A7_mutant_channels_last_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows_first(index: int, shape: torch.Size) -> tuple[int, int, int]:
        channels, _, width = shape
        return index % channels, index // channels // width, index // channels % width

    monkeypatch.setattr(module, "unravel", rows_first)
    data = view.compute(subject(), Options())
    assert not data.ok
    assert [p.identity for p in data.proofs if not p.ok] == [
        "feature named by channel, row, column - feature in the vector"
    ]


def test_view_A7_mutant_biases_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module._affine
    monkeypatch.setattr(module, "_affine", lambda op: (plain(op)[0], 0 * plain(op)[1]))
    assert not view.compute(subject(), Options()).ok


def test_view_A8_centred_weights_and_cosines() -> None:
    model = MnistCNN((1, 28, 28), 10)
    layer = last_layer(model, image(1, 28, 28))
    assert layer.layer == "fc2"
    assert float(layer.centred.sum(0).abs().max()) < 1e-12
    cosines = cosine_matrix(layer.centred)
    assert torch.allclose(cosines, cosines.T)
    assert torch.allclose(cosines.diagonal(), torch.ones(10).double())
    h = torch.randn(128).double()
    assert torch.allclose(softmax(layer.centred @ h), softmax(layer.weights @ h))


@pytest.mark.parametrize("classes", [3, 10])
def test_view_A8_collapsed_features_have_nc1_0_and_even_cosines(classes: int) -> None:
    corners = torch.randn(20, classes, generator=generator(0, "corners")).double()
    corners, _ = torch.linalg.qr(corners)
    labels = torch.arange(classes).repeat(5)
    found = collapse(corners.T[labels] + 3, labels, classes)
    assert found.nc1 == pytest.approx(0, abs=1e-9)
    off = found.cosines[~torch.eye(classes, dtype=torch.bool)]
    assert off.tolist() == pytest.approx([-1 / (classes - 1)] * len(off))
    spread = torch.randn(len(labels), 20, generator=generator(0, "noise")).double()
    assert collapse(corners.T[labels] + spread, labels, classes).nc1 > 0.1
    tilted = corners.T + torch.arange(classes)[:, None] * torch.ones(20)
    assert collapse(tilted[labels], labels, classes).nc2 > 0.1


def test_view_A8_mutant_weights_that_are_not_centred(monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.inspection import templates
    from pellucid.views import classes

    many = Subject.of(MnistCNN((1, 28, 28), 10), Digits().load().train.part(torch.arange(100)))
    assert classes.compute(many, Options()).ok
    monkeypatch.setattr(templates.Head, "centred", property(lambda self: self.weights))
    assert not classes.compute(many, Options()).ok
