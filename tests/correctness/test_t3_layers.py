"""Traps T3 of `docs/correctness.md`: layers and shapes.

What PyTorch's layers do is claimed by labs, which `tests/labs` runs; here is what pellucid's own
models and views do, and what needs no lab.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.inspection.formulas import Window
from pellucid.inspection.logits import logit_walk, unravel
from pellucid.models.mlp import MLP
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.resnet import ResNet
from pellucid.models.simple_cnn import SimpleCNN
from pellucid.seeds import generator, reseed
from pellucid.values import ImageSet
from pellucid.views.catalogue import find_view
from pellucid.views.options import Options
from pellucid.views.subject import Subject


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def noise(*shape: int, key: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(key, "x"))


def test_trap_T3_1_the_formula_of_the_view_is_what_torch_gives():
    tried = 0
    for n, k, s, p, d, ceil in itertools.product(
        range(5, 13), (1, 2, 3), (1, 2, 3), (0, 1), (1, 2), (False, True)
    ):
        if p > k // 2 or n + 2 * p < d * (k - 1) + 1:
            continue
        there = F.max_pool2d(torch.zeros(1, 1, n, n), k, s, p, d, ceil).shape[2]
        window = Window((k, k), (s, s), (p, p), (p, p), (d, d), ceil)
        assert window.size(0, n) == there, (n, k, s, p, d, ceil)
        tried += 1
    assert tried > 300
    assert nn.MaxPool2d(3).stride == 3  # of a pool the window's size, of a convolution 1
    assert nn.Conv2d(1, 1, 3).stride == (1, 1)
    with pytest.raises(RuntimeError, match="pad"):
        F.max_pool2d(torch.zeros(1, 1, 8, 8), 3, padding=2)


def test_trap_T3_3_groups_divide_the_weights():
    for groups, bias in itertools.product((1, 2, 4), (True, False)):
        layer = nn.Conv2d(8, 12, (3, 5), groups=groups, bias=bias)
        assert size(layer) == 8 // groups * 12 * 3 * 5 + 12 * bias
        net = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2))
        held = Subject.of(net, shape=(8, 9, 9), classes=("a", "b"))
        assert find_view("shapes").compute(held, Options()).ok  # its counts add up to the model's


def test_trap_T3_6_a_flat_index_is_channel_then_row_then_column():
    maps = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    for index, value in enumerate(maps.flatten().tolist()):
        assert maps[unravel(index, maps.shape)] == value
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 3))
    hop = logit_walk(net, noise(1, 1, 8, 8)).hops[0]
    c, y, x = hop.place(50)
    assert float(hop.maps[c, y, x]) == float(hop.maps.flatten()[50])


def test_trap_T3_7_no_bias_before_batch_norm():
    """What a bias adds, the mean takes away; so our networks have none there."""
    layer, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    x = noise(6, 3, 8, 8)
    before = norm(layer(x)).detach()
    with torch.no_grad():
        layer.bias += 5  # type: ignore[operator]
    assert torch.allclose(norm(layer(x)), before, atol=1e-5)
    resnet = ResNet((3, 32, 32), 10, depth=8, width=4)
    assert all(m.bias is None for m in resnet.modules() if isinstance(m, nn.Conv2d))
    assert any(isinstance(m, nn.BatchNorm2d) for m in resnet.modules())


def test_trap_T3_8_half_a_kernel_keeps_the_size_only_for_odd_ones():
    x = torch.zeros(1, 1, 28, 28)
    kept = {k: F.conv2d(x, torch.zeros(1, 1, k, k), padding=k // 2).shape[2] for k in range(1, 8)}
    assert [k for k, n in kept.items() if n == 28] == [1, 3, 5, 7]
    assert F.conv2d(x, torch.zeros(1, 1, 3, 3), padding=1, stride=2).shape[2] == 14
    assert F.conv2d(x, torch.zeros(1, 1, 3, 3), padding=1, dilation=2).shape[2] == 26
    for model in (MnistCNN((1, 28, 28), 10), SimpleCNN((3, 32, 32), 10)):
        for part in model.modules():
            if isinstance(part, nn.Conv2d):  # ours pad odd kernels by half of them
                assert part.kernel_size[0] % 2 == 1


def test_trap_T3_10_one_value_per_channel_has_no_variance():
    norm = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(noise(1, 3, 1, 1))
    assert norm.eval()(noise(1, 3, 1, 1)).shape == (1, 3, 1, 1)
    x = noise(4, 3, 5, 5)
    alone = torch.cat([norm(one[None]) for one in x])
    assert torch.allclose(norm(x), alone, atol=1e-6)  # in eval mode nobody's neighbours count


def test_trap_T3_12_dropout_of_our_models_is_the_identity_in_evaluation():
    reseed(0, "init")
    net = SimpleCNN((3, 32, 32), 10, 0.5)
    x = noise(4, 3, 32, 32)
    net.train()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    ones = torch.ones(100_000)
    assert set(F.dropout(ones, 0.2).unique().tolist()) == {0.0, 1.25}  # 1 / (1 - p)


def test_trap_T3_13_every_forward_pass_draws_a_mask_of_its_own():
    layer = nn.Dropout(0.5)
    masks = torch.stack([layer(torch.ones(64)) for _ in range(8)])
    assert len(masks.unique(dim=0)) == 8


def test_trap_T3_17_true_means_ignore_in_one_place_and_take_part_in_the_other():
    reseed(0, "init")
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = noise(1, 4, 8)
    hidden = torch.tensor([[False, False, False, True]])
    with torch.no_grad():
        _, weights = layer(x, x, x, key_padding_mask=hidden)
    assert float(weights[..., 3].abs().max()) == 0
    assert torch.allclose(weights.sum(-1), torch.ones(1, 4))
    q = noise(1, 1, 4, 8)
    shown = F.scaled_dot_product_attention(q, q, q, attn_mask=~hidden[:, None, None])
    part = F.scaled_dot_product_attention(q, q[:, :, :3], q[:, :, :3])
    assert torch.allclose(shown, part, atol=1e-6)


def test_trap_T3_22_dropout_makes_the_training_loss_noisier_and_higher():
    reseed(0, "init")
    net = nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Dropout(0.5), nn.Linear(200, 4))
    x, y = noise(64, 20), torch.arange(64) % 4
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        noisy = torch.stack([F.cross_entropy(net(x), y) for _ in range(40)])
        calm = F.cross_entropy(net.eval()(x), y)
    assert float(noisy.std()) > 1e-3
    assert float(noisy.mean()) > float(calm)


def test_trap_T3_28_a_layer_of_equal_width_has_much_to_learn():
    assert size(nn.Conv2d(64, 64, 3)) == 36_928
    trained = nn.Conv2d(64, 64, 3, padding=1)
    x = noise(1, 64, 6, 6)
    assert trained(x).shape == x.shape
    assert not torch.allclose(trained(x), x)


def test_trap_T3_30_networks_are_compared_as_wholes():
    mlp, cnn = MLP((1, 28, 28), 10, (500,)), MnistCNN((1, 28, 28), 10)
    first = size(next(m for m in mlp.modules() if isinstance(m, nn.Linear)))
    assert first == 784 * 500 + 500
    convolutions = sum(size(m) for m in cnn.modules() if isinstance(m, nn.Conv2d))
    assert convolutions < first / 10  # a layer against layers
    assert size(cnn) > size(mlp)  # and yet this whole network is the larger one


def test_trap_T3_31_a_list_of_layers_registers_nothing():
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(4, 4), nn.Linear(4, 2)]

    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 2)])

    assert size(Listed()) == 0
    assert size(Kept()) == 30
    assert not Listed().state_dict()
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    data = ImageSet.of(images, torch.tensor([0, 1]), ("a", "b"), "x")
    assert len(data) == 2
    for model in (MnistCNN((1, 28, 28), 10), ResNet((3, 32, 32), 10, depth=8, width=4)):
        held = {id(p) for p in model.parameters()}
        listed = [
            value
            for part in model.modules()
            for value in vars(part).values()
            if isinstance(value, list)
        ]
        assert held
        assert not any(isinstance(one, nn.Module) for value in listed for one in value)
