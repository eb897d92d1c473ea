"""Units over many images: counted exactly, dead ones found, and no other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.data.digits import Digits
from pellucid.inspection import activations as module
from pellucid.inspection.activations import audit, find_sites
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.resnet import ResNet
from pellucid.seeds import generator
from pellucid.views import activations as view
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject


def subject() -> Subject:
    model = MnistCNN((1, 28, 28), 10)
    model.conv1.bias.data.copy_(model.conv1.bias.data.abs())
    return Subject.of(model, Digits().load().train.part(torch.arange(0, 5000, 50)))


def test_view_A6_a_unit_with_a_bias_of_minus_a_million_is_dead_and_no_other() -> None:
    one = subject()
    model = one.model
    assert isinstance(model, MnistCNN)
    model.conv2.bias.data += 1  # so that none is dead by itself
    model.conv2.bias.data[17] = -1e6
    data = view.compute(one, Options(layer="conv2"))
    layer = data.numbers["layers"][0]
    assert layer["dead"] == [17]
    assert layer["places"] == 100 * 7 * 7
    assert data.ok


def test_view_A6_counts_are_those_of_one_plain_pass() -> None:
    one = subject()
    data = one.part(None)
    x = one.prepare(data.pixels(torch.arange(len(data))))
    model = one.model.eval()
    assert isinstance(model, MnistCNN)
    with torch.no_grad():
        maps = F.relu(model.pool(model.conv1(x)))
    found = view.compute(one, Options(layer="conv1", count=100)).numbers["layers"][0]
    assert torch.equal(found["active"], (maps > 0).sum((0, 2, 3)) / (100 * 14 * 14))
    assert torch.equal(found["maximum"], maps.amax((0, 2, 3)))


def test_view_A6_duplicates_and_units_that_are_always_on() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    conv = net[0]
    assert isinstance(conv, nn.Conv2d)
    conv.weight.data[2] = 3 * conv.weight.data[0]
    conv.bias.data.copy_(torch.tensor([0.1, 100.0, 0.3, -100.0]))  # type: ignore[union-attr]
    x = torch.randn(10, 1, 8, 8, generator=generator(0, "x"))
    found, moved = audit(net, x.split(3), find_sites(net, x[:1]))
    assert found[0].twins == ((0, 2),)
    assert (found[0].dead, found[0].always_on) == ([3], [1])
    assert found[0].places == 10 * 36
    assert moved == 0


def test_view_A6_a_part_of_the_images_is_called_a_part() -> None:
    data = view.compute(subject(), Options(count=10))
    assert "10 of 100 images" in data.title
    assert "10 of 100 images" in data.notes[0]
    assert "all 100 images" in view.compute(subject(), Options()).title


def test_view_A6_a_capped_relu_can_be_dead_too() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(108, 2))
    net[0].bias.data[1] = -1e6  # type: ignore[index]
    x = torch.randn(4, 1, 8, 8, generator=generator(0, "x"))
    found, _ = audit(net, [x], find_sites(net, x[:1]))
    assert found[0].dead == [1]
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(108, 2))
    assert not audit(plain, [x], find_sites(plain, x[:1]))[0][0].rectified


def test_view_A6_each_layer_is_seen_after_its_own_nonlinearity() -> None:
    model = ResNet((3, 32, 32), 10, depth=8)
    found = find_sites(model, torch.zeros(1, 3, 32, 32))
    assert found[0].layer == "conv"
    assert found[0].call == "relu"
    assert found[-1].call == "linear"
    names = [site.layer for site in found]
    assert len(names) == len(set(names)) == 10  # 7 of 3x3, 2 that carry, 1 linear


def test_view_A6_an_unknown_layer_names_those_there_are() -> None:
    with pytest.raises(BadOption, match="conv1, conv2, fc1, fc2"):
        view.compute(subject(), Options(layer="conv9"))


def test_view_A6_mutant_zeros_counted_as_active(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module._Sums.add

    def twice(self: module._Sums, rows: Tensor) -> None:
        plain(self, rows)
        self.positive += (rows == 0).sum(0)

    monkeypatch.setattr(module._Sums, "add", twice)
    assert not view.compute(subject(), Options()).ok


def test_view_A6_mutant_a_batch_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module._rows
    monkeypatch.setattr(module, "_rows", lambda values: plain(values[:-1]))
    assert not view.compute(subject(), Options()).ok
