"""The way of weights over a run, one step under glass, and what units are worth."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.inspection import ablation as ablation_module
from pellucid.inspection.ablation import ablation
from pellucid.inspection.activations import find_sites
from pellucid.inspection.effective import gradient_energy
from pellucid.inspection.evolution import course
from pellucid.inspection.onestep import SCALES, check_step, sgd_miss, take_step
from pellucid.inspection.receptive import Field, fields
from pellucid.inspection.trace import looking, trace
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.resnet import ResNet
from pellucid.seeds import generator, reseed
from pellucid.values import ImageSet


def test_view_A3_a_path_is_never_shorter_than_the_displacement() -> None:
    walk = [torch.randn(4, 3, generator=generator(0, "w", i)) for i in range(8)]
    way = course(walk, list(range(0, 80, 10)))
    assert bool((way.path >= way.displacement - 1e-12).all())
    by_hand = sum(float((b - a).norm()) for a, b in zip(walk, walk[1:], strict=False))
    assert float(way.path[-1]) == pytest.approx(by_hand / float(walk[0].norm()))
    assert float(way.cosine[-1]) == pytest.approx(1)
    moved = float((walk[3] - walk[2]).norm() / walk[2].norm()) / 10
    assert float(way.ratio[3]) == pytest.approx(moved)


def test_view_A3_a_frozen_layer_gives_zeros_and_one_that_starts_at_0_no_nan() -> None:
    still = course([torch.ones(2, 2)] * 4, [0, 1, 2, 3])
    assert not bool(torch.stack([still.displacement, still.path, still.ratio]).any())
    fresh = course([torch.zeros(2, 2), torch.ones(2, 2)], [0, 5])
    assert fresh.displacement.tolist() == [0, 1]
    assert all(bool(values.isfinite().all()) for values in vars(fresh).values())


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(16, 1, 12, 12, generator=generator(0, "x")), torch.arange(16) % 4


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(100, 4),
    )  # fmt: skip


def loss(model: nn.Module) -> Tensor:
    x, y = batch()
    return F.cross_entropy(model(x.to(next(model.parameters()).dtype)), y)


def test_view_A19_plain_sgd_is_weight_minus_rate_times_gradient_to_the_bit() -> None:
    model = small()
    start = copy.deepcopy(model)
    assert sgd_miss(model, loss, 0.05) == 0
    for (name, p), (_, q) in zip(model.named_parameters(), start.named_parameters(), strict=True):
        assert torch.equal(p, q), name
    seen = take_step(model, loss, torch.optim.SGD(model.parameters(), lr=0.05).step)
    for name, p in model.named_parameters():
        assert torch.equal(p, torch.add(seen.before[name], seen.gradients[name], alpha=-0.05))
    squares = sum(float((g.double() ** 2).sum()) for g in seen.gradients.values())
    assert seen.forecast == pytest.approx(-0.05 * squares, rel=1e-5)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_view_A19_the_forecast_becomes_true_as_steps_get_smaller(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    model = small()
    stepper = optimizer(model.parameters(), lr=0.001)  # type: ignore[call-arg]
    start = copy.deepcopy(model)
    seen = take_step(model, loss, stepper.step)
    misses = [abs(ratio - 1) for ratio in check_step(start, loss, seen.changes, 0.1).ratios]
    assert len(misses) == len(SCALES)
    assert misses[-1] < 0.01
    assert misses[-1] < misses[0]
    assert seen.after < seen.loss


def test_view_A19_a_gradient_that_is_not_cleared_is_seen_doubled() -> None:
    model = small()
    start = copy.deepcopy(model)
    seen = take_step(model, loss, torch.optim.SGD(model.parameters(), lr=0.01).step)
    checks = check_step(start, loss, seen.changes, 0.01)
    assert (checks.doubled, checks.sgd) == (0, 0)
    assert all(p.grad is None for p in start.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_view_A19_mutant_a_forecast_with_the_wrong_sign_does_not_go_to_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pellucid.inspection import onestep

    plain = onestep._gradients
    monkeypatch.setattr(onestep, "_gradients", lambda m: {n: -g for n, g in plain(m).items()})
    model = small()
    start = copy.deepcopy(model)
    seen = take_step(model, loss, torch.optim.SGD(model.parameters(), lr=0.01).step)
    assert abs(check_step(start, loss, seen.changes, 0.01).ratios[-1] - 1) > 1


def positive(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 1, generator=generator(0, "positive"))
    return model


STACK = nn.Sequential(
    nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3, stride=2),
    nn.ReLU(), nn.Conv2d(2, 1, 3, padding=2, dilation=2), nn.ReLU(),
)  # fmt: skip


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (3, 2)])
def test_view_A10_positive_weights_and_mean_pools_fill_the_box_and_nothing_else(
    place: tuple[int, int],
) -> None:
    model = positive(copy.deepcopy(STACK))
    x = torch.rand(2, 1, 28, 28, generator=generator(0, "x")) + 0.1
    with looking(model), torch.no_grad():
        ops = trace(model, x[:1])
    field = fields(ops)[-1]
    assert isinstance(field, Field)
    energy = gradient_energy(model, [x], ops[-1].index, 0, place)
    top, left, bottom, right = field.box(place, (28, 28))
    inside = torch.zeros(28, 28, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    outside = energy[~inside]
    assert not bool(outside.any())
    rows = (energy > 0).any(1).nonzero().flatten()
    columns = (energy > 0).any(0).nonzero().flatten()
    # a dilated kernel skips pixels inside its box, so the ends count
    assert (int(rows[0]), int(rows[-1]) + 1) == (top, bottom)
    assert (int(columns[0]), int(columns[-1]) + 1) == (left, right)


def test_view_A10_a_residual_network_has_the_field_of_its_longer_path() -> None:
    model = ResNet((3, 32, 32), 10, depth=8, width=4)
    x = torch.zeros(1, 3, 32, 32)
    with looking(model), torch.no_grad():
        ops = trace(model, x)
    seen = {op.layer: field for op, field in zip(ops, fields(ops), strict=True)}
    assert seen["conv"] == Field((3, 3), (1, 1), (-1, -1))
    last = [f for f in fields(ops) if isinstance(f, Field)][-1]
    assert last.size == (25, 25)  # 3, then 2 + 2 at step 1, 2 + 4 and 4 + 8 where it doubles
    assert last.jump == (4, 4)


def test_view_A10_mutant_a_box_of_a_layer_before_is_too_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pellucid.data.digits import Digits
    from pellucid.inspection import receptive as receptive_module
    from pellucid.views import receptive as view
    from pellucid.views.options import Options
    from pellucid.views.subject import Subject

    subject = Subject.of(MnistCNN((1, 28, 28), 10), Digits().load().train.part(torch.arange(30)))
    assert view.compute(subject, Options()).ok

    def smaller(self: Field, place: tuple[int, int], shape: tuple[int, int]) -> object:
        top, left, bottom, right = plain(self, place, shape)
        return top, left, bottom - 2, right

    plain = Field.box
    monkeypatch.setattr(receptive_module.Field, "box", smaller)
    assert not view.compute(subject, Options()).ok


def judged() -> list[tuple[Tensor, Tensor]]:
    x = torch.randn(40, 1, 28, 28, generator=generator(0, "x"))
    return [(x[:25], torch.arange(25) % 10), (x[25:], torch.arange(15) % 10)]


def test_view_A23_a_unit_without_outgoing_weights_is_worth_nothing() -> None:
    model = MnistCNN((1, 28, 28), 10)
    with torch.no_grad():
        model.conv2.weight[:, 5] = 0
        model.conv1.bias += 0.5  # type: ignore[operator]
    site = find_sites(model, judged()[0][0][:1])[0]
    found = ablation(model, judged(), site, 10, range(8))
    assert torch.equal(found.zero[5], found.baseline)
    assert torch.equal(found.mean[5], found.baseline)
    assert torch.equal(found.nothing, found.baseline)
    assert int(found.n.sum()) == 40


def test_view_A23_setting_a_unit_to_0_is_what_zero_weights_do() -> None:
    model = MnistCNN((1, 28, 28), 10).eval()
    site = find_sites(model, judged()[0][0][:1])[0]
    found = ablation(model, judged(), site, 10, [3])
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.conv1.weight[3] = 0
        other.conv1.bias[3] = 0  # type: ignore[index]
        right = torch.zeros(10, dtype=torch.int64)
        for x, y in judged():
            said = other(x).argmax(1)
            right += torch.bincount(y[said == y], minlength=10)
    assert torch.equal(found.zero[0], right)


def test_view_A23_mutant_a_unit_that_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting a unit to 0 in place, for good, moves even the run in which nothing is taken."""
    from pellucid.data.digits import Digits
    from pellucid.views import ablation as view
    from pellucid.views.options import Options
    from pellucid.views.subject import Subject

    reseed(0, "init")
    model = MnistCNN((1, 28, 28), 10)
    for parameter in model.parameters():
        parameter.data *= 4  # so that it does not say the same of all images
    images = Digits().load().train.images[::50]
    with torch.no_grad():
        said = model.eval()(images / 255).argmax(1)
    assert len(said.unique()) > 1
    names = tuple("0123456789")
    subject = Subject.of(model, ImageSet.of(images, said, names, "as the model says"))
    assert view.compute(subject, Options()).ok
    plain = ablation_module._changed

    def leaky(model, images, op, change):  # type: ignore[no-untyped-def]
        return plain(model, images, op, change if change is None else lambda out: 0 * out)

    monkeypatch.setattr(ablation_module, "_changed", leaky)
    assert not view.compute(subject, Options()).ok
