"""The network for short runs: its plan, and what a user may set."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.models.fast_cnn import FastCNN


def kinds(net: FastCNN) -> list[str]:
    return [type(layer).__name__ for layer in net.groups]


def test_a_group_halves_the_image_in_its_first_convolution() -> None:
    net = FastCNN((3, 32, 32), 10, (24, 64, 128), depth=2, kernel=2, stride=1, last_pool=True)
    group = ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds(net) == 2 * group
    assert net.first(torch.zeros(1, 3, 32, 32)).shape == (1, 24, 31, 31)
    assert net.groups(net.first(torch.zeros(1, 3, 32, 32))).shape == (1, 128, 7, 7)


def test_the_last_group_keeps_the_places_unless_told_otherwise() -> None:
    assert kinds(FastCNN((1, 28, 28), 10)).count("MaxPool2d") == 1
    assert kinds(FastCNN((1, 28, 28), 10, last_pool=True)).count("MaxPool2d") == 2


def test_the_scale_of_the_logits() -> None:
    plain, scaled = FastCNN((1, 8, 8), 3), FastCNN((1, 8, 8), 3, logit_scale=0.25)
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.eval()(x) * 0.25, scaled.eval()(x))


@pytest.mark.parametrize("norm_scale", [False, True])
def test_the_scales_of_normalisation_learn_only_if_they_shall(norm_scale: bool) -> None:
    net = FastCNN((1, 8, 8), 3, norm_scale=norm_scale)
    norms = [layer for layer in net.groups if isinstance(layer, nn.BatchNorm2d)]
    assert {layer.weight.requires_grad for layer in norms} == {norm_scale}
    assert all(layer.bias.requires_grad for layer in norms)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images of 28x28 pixels are 1 pixels wide after 3 halv"):
        FastCNN((1, 28, 28), 10, (32, 64, 64, 64, 64))
