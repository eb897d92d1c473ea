"""Whitening: what the first layer gives is white; identity behind it; kept while training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from pellucid import Engine, good, resume, steps, train
from pellucid.assemble import assemble
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe
from pellucid.models.fast_cnn import FastCNN, FastCNNSpec
from pellucid.models.mlp import MLPSpec
from pellucid.models.whitening import Whitening, whitening
from pellucid.recipe import Recipe
from pellucid.values import Step


def pictures(channels: int = 3) -> torch.Tensor:
    """Smooth random images, of mean 0: neighbouring pixels are alike."""
    noise = torch.randn(64, channels, 20, 20, generator=torch.Generator().manual_seed(3))
    smooth = nn.functional.avg_pool2d(noise, 3, 1, 1)
    return smooth - smooth.mean()


def recipe() -> Recipe:
    return good("digits").with_(
        model=FastCNNSpec(widths=(16, 16, 16), strides=(2, 1, 1), kernel=3),
        init=Whitening(),
        length=steps(12),
    )


def test_what_the_first_filters_give_is_white() -> None:
    x = pictures().double()
    net = nn.Conv2d(3, 54, 3).double()  # 27 directions, with both signs
    Whitening(eps=0).see(net, x)
    given = net(x)[:, :27].permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(given @ given.T / given.shape[1], torch.eye(27).double(), atol=1e-8)
    assert torch.equal(net.weight[27:], -net.weight[:27])
    assert net.bias is not None
    assert not net.bias.any()


def test_the_directions_are_those_of_principal_components() -> None:
    x = pictures(1)
    patches = x.unfold(2, 3, 1).unfold(3, 3, 1).reshape(-1, 9)
    values, vectors = whitening(x, 3, 3)
    theirs = PCA().fit(patches.double().numpy())
    along = (vectors @ torch.from_numpy(theirs.components_).T).abs()
    assert torch.allclose(along, torch.eye(9).double(), atol=0.02)  # theirs subtracts the mean
    assert torch.allclose(values, torch.from_numpy(theirs.explained_variance_), rtol=0.02)


def test_filters_that_are_left_over_keep_their_draws_and_the_strongest_directions_come_first() -> (
    None
):
    x = pictures(1)
    wide, narrow = nn.Conv2d(1, 12, 2), nn.Conv2d(1, 4, 2)
    before = wide.weight.detach().clone()
    Whitening().see(wide, x)
    Whitening().see(narrow, x)
    assert torch.equal(wide.weight[8:], before[8:])
    assert torch.equal(narrow.weight[:2], wide.weight[:2])
    assert narrow.weight[0].std() < 0.1 * narrow.weight[0].mean().abs()  # the mean of the patch


def test_later_convolutions_begin_as_the_identity() -> None:
    net = FastCNN((1, 28, 28), 10, (8, 16, 8), (2, 1, 1))
    Whitening().apply(net)
    layers = [layer for layer in net.layers if isinstance(layer, nn.Conv2d)][1:]
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layers[0](x)[:, :8], x)  # 8 -> 16
    assert layers[0].weight[8:].std() > 0
    y = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layers[1](y), y[:, :8])  # 16 -> 8
    plain = FastCNN((1, 28, 28), 10, (8, 16, 8), (2, 1, 1))
    before = plain.layers[2].weight.detach().clone()
    Whitening(identity=False).apply(plain)
    assert torch.equal(plain.layers[2].weight, before)


def test_the_filters_come_from_training_images_and_stay(tmp_path: Path) -> None:
    engine = Engine.start(EngineSpec())
    first = assemble(recipe(), engine).state.model.layers[0].weight.clone()  # type: ignore[union-attr, index, operator]
    run = train(recipe(), tmp_path)
    last = run.checkpoints.latest()[0]
    assert last is not None
    assert torch.equal(last.tensors["model"]["layers.0.weight"], first)
    assert last.tensors["model"]["layers.0.bias"].any()
    assert not any(key.startswith("layers.0.weight") for key in last.tensors["optimizer"])


def test_a_resumed_run_takes_the_same_steps(tmp_path: Path) -> None:
    def half(step: Step) -> bool:
        return step.index == 6

    whole = train(recipe(), tmp_path / "a").checkpoints.latest()[0]
    run = train(recipe(), tmp_path / "b", stop=half)
    parts = resume(run.path).checkpoints.latest()[0]
    assert whole is not None
    assert parts is not None
    for name, weight in whole.tensors["model"].items():
        assert torch.equal(weight, parts.tensors["model"][name])


def test_a_model_without_convolutions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="Init.name whitening sets the filters of the first conv"):
        train(recipe().with_(model=MLPSpec()), tmp_path)
