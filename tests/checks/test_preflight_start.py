"""Checks of the untrained model: output, first loss, gradients, images that mix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid import Engine, Recipe, good
from pellucid.assemble import Assembled, assemble
from pellucid.augment.pipeline import AugmentSpec
from pellucid.checks.preflight import preflight, quick_checks
from pellucid.checks.preflight_gradients import (
    gradient_norms,
    gradients,
    parameters,
    samples_apart,
)
from pellucid.checks.preflight_start import Look, look, output, start_loss
from pellucid.models.mlp import MLP, MLPSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.optim.losses import CrossEntropy
from pellucid.seeds import generator

Shape = tuple[int, int, int]
PLAIN = good("digits").with_(model=MLPSpec(), augment=AugmentSpec())
ENGINE = Engine.start(PLAIN.engine)


@dataclass(frozen=True)
class Made:
    """A model of one's own."""

    make: Callable[[Shape, int], nn.Module]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return self.make(shape, classes)


class Net(nn.Module):
    """Two layers, with something planted between them."""

    def __init__(self, between: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.first = nn.Linear(784, 20)
        self.last = nn.Linear(20, 10)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.between(self.first(self.flatten(x))))
        return logits


def built(model: nn.Module, recipe: Recipe = PLAIN) -> Assembled:
    return assemble(recipe.with_(model=Made(lambda shape, classes: model)), ENGINE)


def followed(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(MLP((1, 28, 28), 10), *layers)


def test_a_softmax_at_the_end() -> None:
    sure = nn.Sequential(MLP((1, 28, 28), 10), nn.Softmax(1))
    check = output(look(built(sure), ENGINE, 100))
    assert check.verdict == "failed"
    assert "1.46" in check.advice
    # Its first loss is no sign of it: an even guess costs ln C once more.
    assert start_loss(look(built(sure), ENGINE, 100)).verdict == "ok"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (followed(nn.Linear(10, 9)), "100 x 9"),
        (followed(nn.Unflatten(1, (10, 1))), "100 x 10 x 1"),
        (nn.Sequential(nn.Flatten(), nn.Linear(783, 10)), "RuntimeError: mat1 and mat2"),
        (followed(nn.Flatten(0)), "1000"),
    ],
)
def test_a_model_that_does_not_fit(model: nn.Module, text: str) -> None:
    broken = built(model)
    check = output(look(broken, ENGINE, 100))
    assert check.verdict == "failed"
    assert check.measured.startswith(text)
    assert check.expected == "100 x 10 finite logits"
    assert [c.name for c in preflight(PLAIN, ENGINE, broken)][-1] == "output"
    assert [c.name for c in quick_checks(broken, ENGINE)] == ["labels", "input", "output"]


def test_logits_that_are_no_numbers() -> None:
    seen = look(built(Net(lambda h: torch.log(h - 1e9))), ENGINE, 50)
    assert output(seen).verdict == "failed"
    assert "nan" in output(seen).measured
    assert start_loss(seen).verdict == "failed"


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_an_even_guess_costs_ln_c(classes: int) -> None:
    check = start_loss(Look(torch.zeros(200, classes), torch.arange(200) % classes, classes))
    assert check.verdict == "ok"
    assert check.measured == f"{math.log(classes):.3f} +- 0.000, n = 200"


@pytest.mark.parametrize(
    ("deviation", "verdict"),
    [(0.1, "ok"), (math.sqrt(2), "ok"), (2.0, "warning"), (6.0, "failed"), (math.nan, "failed")],
)
def test_logits_that_start_large(deviation: float, verdict: str) -> None:
    for classes in (10, 100):
        targets = torch.arange(20_000) % classes
        logits = deviation * torch.randn(20_000, classes, generator=generator(0, "test"))
        assert start_loss(Look(logits, targets, classes)).verdict == verdict


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_normal_logits_cost_at_most_half_their_variance(classes: int) -> None:
    """The bound on which the tolerance stands; He's last layer gives a variance of 2."""
    targets = torch.arange(20_000) % classes
    for deviation in (0.1, 0.5, 1.0, math.sqrt(2), 3.0):
        logits = deviation * torch.randn(20_000, classes, generator=generator(0, "test"))
        loss = F.cross_entropy(logits, targets).item()
        assert loss < math.log(classes) + deviation**2 / 2 + 0.03


def test_better_than_a_guess_before_training() -> None:
    targets = torch.arange(300) % 10
    check = start_loss(Look(F.one_hot(targets, 10).float(), targets, 10))
    assert check.verdict == "warning"
    assert "pretrained" in check.advice


def test_smoothing_and_weights_do_not_move_the_first_loss() -> None:
    heavy = tuple(float(i + 1) for i in range(10))
    seen = [
        start_loss(look(assemble(PLAIN.with_(loss=loss), ENGINE), ENGINE, 200))
        for loss in (CrossEntropy(), CrossEntropy(label_smoothing=0.5, class_weights=heavy))
    ]
    assert seen[0] == seen[1]


def test_batchnorm_is_judged_by_its_batch() -> None:
    """Its running statistics are 0 and 1 before training, which no activation has."""
    layers = [nn.Flatten(), nn.Linear(784, 50), nn.BatchNorm1d(50), nn.ReLU(), nn.Linear(50, 10)]
    loud = nn.Sequential(*layers)
    with torch.no_grad():
        layers[1].weight *= 1000
    ready = built(loud)
    assert start_loss(look(ready, ENGINE, 200)).verdict == "ok"
    running = ready.state.model.eval()(
        ready.task.prepare(ready.splits.train.pixels(torch.arange(200)))
    )
    assert F.cross_entropy(running, ready.splits.train.targets[:200]).item() > 10


def test_first_loss_and_gradient_of_a_plain_network() -> None:
    """Against plain PyTorch."""
    ready = assemble(PLAIN, ENGINE)
    model, train = ready.state.model, ready.splits.train
    index = torch.arange(300) * len(train) // 300
    loss = F.cross_entropy(model(ready.task.prepare(train.pixels(index))), train.label(index))
    assert start_loss(look(ready, ENGINE, 300)).measured.startswith(f"{loss.item():.3f} ")
    first = ready.task.train.index(0)[:32]
    F.cross_entropy(model(ready.task.prepare(train.pixels(first))), train.label(first)).backward()
    expected = {n: float(p.grad.norm()) for n, p in model.named_parameters() if p.grad is not None}
    assert gradient_norms(ready, ENGINE) == pytest.approx(expected, rel=1e-4)


def zeros(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def unused(model: nn.Module) -> nn.Module:
    model.spare = nn.Linear(3, 3)
    return model


def infinite(model: Net) -> nn.Module:
    nn.init.constant_(model.last.weight, math.inf)
    return model


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Net(lambda h: h.relu().detach()), "none: first.weight, first.bias"),
        (unused(Net()), "none: spare.weight, spare.bias"),
        (zeros(Net()), "none: first.weight, first.bias, last.weight"),
        (Net(lambda h: (h - 1e6).relu()), "none: first.weight, first.bias, last.weight"),
        (infinite(Net()), "not finite: first.weight"),
        (Net(lambda h: (h - h).sqrt()), "not finite: first.weight"),
    ],
    ids=["detached", "unused", "zeros", "dead units", "infinite", "root of 0"],
)
def test_weights_without_a_gradient(model: nn.Module, names: str) -> None:
    check = gradients(gradient_norms(built(model), ENGINE))
    assert check.verdict == "failed"
    assert check.measured.startswith(names)


def test_dropout_draws_the_same_each_time() -> None:
    ready = built(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)))
    first = gradient_norms(ready, ENGINE)
    torch.rand(3)
    assert gradient_norms(ready, ENGINE) == first


def test_a_block_that_starts_at_0_lets_the_gradient_pass_later() -> None:
    ready = assemble(PLAIN.with_(model=ResNetSpec(depth=8, width=8), batch_size=16), ENGINE)
    assert any(
        bool((p == 0).all()) for n, p in ready.state.model.named_parameters() if "weight" in n
    )
    check = gradients(gradient_norms(ready, ENGINE))
    assert check.verdict == "ok"
    assert check.measured.startswith("29 tensors")


def test_a_model_that_is_cut_off_altogether() -> None:
    ready = built(nn.Sequential(Net(), Cut()))
    found = list(preflight(PLAIN, ENGINE, ready))
    assert {c.name: c.verdict for c in found}["gradients"] == "failed"
    assert found[-1].name == "parameters"  # what trains would raise


class Cut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


def test_frozen_and_forgotten_parameters() -> None:
    net = Net()
    assert parameters(built(net)).verdict == "ok"
    net.first.requires_grad_(False)
    check = parameters(built(net))
    assert (check.verdict, "frozen: first.weight, first.bias" in check.measured) == (
        "warning",
        True,
    )
    net.first.requires_grad_(True)
    ready = built(net)
    ready.state.optimizer = torch.optim.SGD(net.first.parameters(), lr=0.1)
    check = parameters(ready)
    assert check.verdict == "failed"
    assert "not in the optimizer: last.weight, last.bias" in check.measured


class Alone(nn.Module):
    """Says something of the other images that carries no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.detach().mean(0)


@pytest.mark.parametrize(
    "layer",
    [
        Net(lambda h: h - h.mean(0)),
        Net(lambda h: h + h.roll(1, 0)),
        Net(lambda h: h + 1e-4 * h.roll(1, 0)),
        Net(lambda h: h.softmax(0)),
        Net(lambda h: h.reshape(20, -1).t()),
        followed(nn.BatchNorm1d(10, track_running_stats=False)),
        followed(Alone()),
    ],
    ids=["mean", "neighbour", "faint", "softmax", "reshape", "norm", "no gradient"],
)
def test_images_that_mix(layer: nn.Module) -> None:
    check = samples_apart(built(layer), ENGINE)
    assert check.verdict == "failed"
    assert check.measured.startswith("mixed")


def test_images_that_do_not_mix() -> None:
    assert samples_apart(built(followed(nn.Softmax(1))), ENGINE).measured == "apart, n = 4"
    ready = assemble(PLAIN.with_(model=ResNetSpec(depth=8, width=8)), ENGINE)
    check = samples_apart(ready, ENGINE)
    assert check.verdict == "ok"
    assert check.measured == "apart, n = 4; in training mode BatchNorm mixes them, by design"


class Mirrored(nn.Module):
    """Five logits and their negatives: whatever the image, they sum to 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :5], -x[:, :5]], 1)


def test_logits_whose_sum_is_always_the_same() -> None:
    assert samples_apart(built(followed(Mirrored())), ENGINE).verdict == "ok"


def test_a_last_layer_that_starts_at_0_is_no_fault_a_dead_network_is() -> None:
    net = Net()
    zeros(net.last)
    assert samples_apart(built(net), ENGINE).verdict == "ok"
    assert samples_apart(built(zeros(Net())), ENGINE).measured == "no gradient reaches the image"
    # Also behind such a layer, mixing is seen.
    mixing = Net(lambda h: (h - h.mean(0)).relu())
    zeros(mixing.last)
    assert samples_apart(built(mixing), ENGINE).measured.startswith("mixed")


def test_the_model_is_left_as_it_was() -> None:
    ready = assemble(PLAIN.with_(model=ResNetSpec(depth=8, width=8)), ENGINE)
    model = ready.state.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    seen = look(ready, ENGINE, 100)
    assert seen.sound
    gradients(gradient_norms(ready, ENGINE))
    samples_apart(ready, ENGINE)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_optimizer_may_hold_a_pretrained_part_that_thaws_later() -> None:
    """The gradient is asked for at the run's end, when nothing is frozen any more."""
    ready = built(Net())

    def thawing(model: nn.Module, step: int) -> None:
        assert isinstance(model, Net)
        model.train()
        model.first.requires_grad_(step >= 5)

    thawed = replace(ready, task=replace(ready.task, mode=thawing))
    assert set(gradient_norms(thawed, ENGINE)) == {
        "first.weight", "first.bias", "last.weight", "last.bias",
    }  # fmt: skip
