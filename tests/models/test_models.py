"""Sizes, shapes, and that the order of pool and ReLU does not matter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid import Engine
from pellucid.catalogue import names, spec
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe
from pellucid.models.mlp import MLP
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.resnet import ResNet, ResNetSpec
from pellucid.models.simple_cnn import SimpleCNN


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_sizes_that_are_promised() -> None:
    assert parameters(MnistCNN((1, 28, 28), 10)) == 421_642
    assert parameters(SimpleCNN((3, 32, 32), 10)) == 94_890
    assert parameters(MLP((1, 28, 28), 10)) == 199_210
    assert parameters(ResNet((3, 32, 32), 10, depth=20)) == 272_474


OURS = [name for name in names("model") if name != "timm"]  # which has a file of its own


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 33, 47), (1, 8, 8)])
def test_every_model_takes_every_image(name: str, shape: tuple[int, int, int]) -> None:
    net = spec("model", name)().build(shape, 7)
    logits = net(torch.randn(3, *shape))
    assert logits.shape == (3, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["mnist-cnn", "simple-cnn"])
def test_images_that_are_too_small_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be at least \dx\d pixels; got 3x3"):
        spec("model", name)().build((1, 3, 3), 10)


def test_pool_then_relu_is_relu_then_pool() -> None:
    """The same function with the same gradient, so the same weights come out of training."""
    x = torch.randn(5, 3, 28, 28, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pool, relu = nn.MaxPool2d(2), nn.ReLU()
    assert torch.equal(pool(relu(x)), relu(pool(x)))
    ours, textbook = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (
        lambda x: relu(pool(x)), lambda x: pool(relu(x))
    ))  # fmt: skip
    assert torch.equal(ours, textbook)


def test_the_layout_in_memory_changes_no_function() -> None:
    torch.default_generator.manual_seed(0)
    x = torch.randn(4, 3, 32, 32)
    for net in (SimpleCNN((3, 32, 32), 10), ResNet((3, 32, 32), 10, 8), MLP((3, 32, 32), 10)):
        net.eval()
        plain = net(x)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = net(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


def test_a_block_passes_its_input_on_at_the_start() -> None:
    net = ResNet((3, 16, 16), 10, depth=8).eval()
    block = net.groups[0][0]  # type: ignore[index]
    x = torch.rand(2, 16, 16, 16)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize("depth", [9, 21, 30])
def test_a_depth_that_is_none(depth: int) -> None:
    with pytest.raises(ValueError, match="depth must be 6 n"):
        ResNetSpec(depth=depth)


def test_the_layer_that_corrupts_memory_is_refused() -> None:
    engine = Engine.start(EngineSpec(device="cpu"))
    bad = nn.Sequential(nn.Conv2d(4, 8, 1, stride=2))
    with pytest.raises(BadRecipe, match="layer 0 .* corrupts memory"):
        engine.wrap(bad)
    engine.wrap(nn.Sequential(nn.Conv2d(16, 8, 1, stride=2), nn.Conv2d(4, 8, 1)))
    for net in (ResNet((1, 28, 28), 10, 8, width=4), SimpleCNN((3, 32, 32), 10)):
        engine.wrap(net)
