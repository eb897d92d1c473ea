"""Initial weights: the rule's variance, and nothing touched by `default`."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pellucid.models.init import Bad, Default, Kaiming, Xavier
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.resnet import ResNet


def model() -> nn.Module:
    torch.default_generator.manual_seed(0)
    return MnistCNN((1, 28, 28), 10)


def test_default_leaves_the_models_own() -> None:
    ours, plain = model(), model()
    Default().apply(ours)
    assert all(map(torch.equal, ours.state_dict().values(), plain.state_dict().values()))


@pytest.mark.parametrize(
    ("spec", "variance"),
    [
        (Kaiming(), lambda fan_in, fan_out: 2 / fan_in),
        (Xavier(), lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        (Bad(), lambda fan_in, fan_out: 1e-6),
        (Bad(std=1.0), lambda fan_in, fan_out: 1.0),
    ],
)
def test_the_variance_is_that_of_the_paper(spec: Kaiming, variance) -> None:  # type: ignore[no-untyped-def]
    drawn = model()
    spec.apply(drawn)
    for layer in (drawn.conv2, drawn.fc1):  # large enough for a tight estimate
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        area = math.prod(layer.weight.shape[2:])
        fan_out, fan_in = layer.weight.shape[0] * area, layer.weight.shape[1] * area
        assert layer.weight.var().item() == pytest.approx(variance(fan_in, fan_out), rel=0.05)
        assert layer.bias is not None
        assert layer.bias.abs().sum() == 0


def test_scales_of_normalisation_stay() -> None:
    net = ResNet((3, 8, 8), 4, depth=8, width=4)
    Kaiming().apply(net)
    assert net.norm.weight.eq(1).all()
