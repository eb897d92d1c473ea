"""The network for short runs: its plan, and what a user may set."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.models.fast_cnn import FastCNN, FastCNNSpec
from pellucid.models.whitening import Whitening


def kinds(net: FastCNN) -> list[str]:
    return [type(layer).__name__ for layer in net.layers]


def test_an_image_is_halved_by_a_stride_or_by_a_pool_before_normalisation() -> None:
    widths, strides = (24, 64, 64), (1, 2, 1)
    plain = FastCNN((3, 32, 32), 10, widths, strides, kernel=2)
    first, rest = ["Conv2d", "ReLU"], ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds(plain) == first + 2 * rest
    pooled = FastCNN((3, 32, 32), 10, widths, strides, kernel=2, pool=True)
    assert kinds(pooled) == first + ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"] + rest
    x = torch.zeros(1, 3, 32, 32)
    assert plain.layers[0](x).shape == (1, 24, 31, 31)
    assert plain.layers(x).shape == pooled.layers(x).shape == (1, 64, 16, 16)


def test_widths_and_strides_belong_together() -> None:
    with pytest.raises(ValueError, match="got 3 widths and 4 strides"):
        FastCNNSpec(widths=(8, 8, 8))


def test_the_scale_of_the_logits() -> None:
    plain, scaled = FastCNN((1, 8, 8), 3), FastCNN((1, 8, 8), 3, logit_scale=0.25)
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.eval()(x) * 0.25, scaled.eval()(x))


@pytest.mark.parametrize("norm_scale", [False, True])
def test_the_scales_of_normalisation_learn_only_if_they_shall(norm_scale: bool) -> None:
    net = FastCNN((1, 8, 8), 3, norm_scale=norm_scale)
    norms = [layer for layer in net.layers if isinstance(layer, nn.BatchNorm2d)]
    assert {layer.weight.requires_grad for layer in norms} == {norm_scale}
    assert all(layer.bias.requires_grad for layer in norms)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images of 4x4 pixels are 1 pixel wide before number 4"):
        FastCNN((1, 4, 4), 10, (8, 8, 8, 8), (2, 2, 1, 2))


def test_a_first_convolution_without_padding_takes_fewer_places() -> None:
    x = torch.zeros(1, 1, 28, 28)
    for kernel, pad, side in [(5, True, 14), (5, False, 12), (4, False, 13), (3, False, 13)]:
        net = FastCNN((1, 28, 28), 10, (8, 8), (2, 1), kernel=kernel, pad_first=pad)
        assert net.layers(x).shape[2:] == (side, side)
    with pytest.raises(ValueError, match="kernel 5 is larger than the images of 4x4 pixels"):
        FastCNN((1, 4, 4), 10, (8,), (1,), pad_first=False)


@pytest.mark.parametrize("bias", [False, True])
def test_without_a_bias_nothing_flows_back_through_whitened_filters(bias: bool) -> None:
    net = FastCNNSpec(bias=bias).build((1, 28, 28), 10)
    x = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    Whitening().apply(net)
    Whitening().see(net, x)
    assert isinstance(net, FastCNN)
    assert net.layers[0](x).requires_grad == bias
    assert net(x).requires_grad
