"""Optimizers are torch's, with decay on weights only."""

from __future__ import annotations

import pytest
import torch

from pellucid.models.resnet import ResNet
from pellucid.optim.freezing import training_mode
from pellucid.optim.specs import SGD, Adagrad, Adam, AdamW, Muon, Optimizing, RMSprop
from pellucid.state import set_lr


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (SGD(), torch.optim.SGD),
        (Adagrad(), torch.optim.Adagrad),
        (Adam(), torch.optim.Adam),
        (AdamW(), torch.optim.AdamW),
    ],
)
def test_builds_torchs_own_fused(spec: SGD, kind: type) -> None:
    optimizer = spec.build(torch.nn.Linear(3, 2))
    assert isinstance(optimizer, kind)
    assert type(optimizer).__name__ == kind.__name__
    assert all(group["fused"] for group in optimizer.param_groups)
    assert all(group["lr"] == spec.lr for group in optimizer.param_groups)


def test_only_weights_decay() -> None:
    model = ResNet((3, 8, 8), 4, depth=8, width=4)
    decaying, still = AdamW(weight_decay=0.3).build(model).param_groups
    assert {p.ndim for p in decaying["params"]} == {2, 4}
    assert {p.ndim for p in still["params"]} == {1}
    assert (decaying["weight_decay"], still["weight_decay"]) == (0.3, 0.0)
    held = {id(p) for group in (decaying, still) for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_biases_of_normalisation_may_have_a_rate_of_their_own(decay: float) -> None:
    model = ResNet((3, 8, 8), 4, depth=8, width=4)
    optimizer = SGD(lr=0.1, weight_decay=decay, norm_bias_lr=64).build(model)
    set_lr(optimizer, 0.05)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    biases = {id(m.bias) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert rates.keys() == {id(p) for p in model.parameters()}
    assert {rate for key, rate in rates.items() if key in biases} == {0.05 * 64}
    assert {rate for key, rate in rates.items() if key not in biases} == {0.05}


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum above 0"):
        SGD(momentum=0.0)


def steps_of(optimizer: torch.optim.Optimizer, weights: list[torch.Tensor]) -> None:
    """Take five steps with gradients that are the same in each call."""
    draws = torch.Generator().manual_seed(1)
    for _ in range(5):
        for p in weights:
            p.grad = torch.randn(p.shape, generator=draws)
            if p.ndim == 4:
                p.grad = p.grad.contiguous(memory_format=torch.channels_last)
        optimizer.step()


def net() -> torch.nn.Module:
    torch.default_generator.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(),
        torch.nn.Linear(72, 4),
    ).to(memory_format=torch.channels_last)  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "build"),
    [
        (
            RMSprop(lr=0.02, alpha=0.9, momentum=0.5),
            lambda p: torch.optim.RMSprop(p, lr=0.02, alpha=0.9, momentum=0.5),
        ),
        (Adagrad(lr=0.02), lambda p: torch.optim.Adagrad(p, lr=0.02)),
        (SGD(weight_decay=0.0), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True)),
    ],
)
def test_steps_are_those_of_torchs_plain_one(spec: Optimizing, build) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = net(), net()
    steps_of(spec.build(ours), list(ours.parameters()))
    steps_of(build(theirs.parameters()), list(theirs.parameters()))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_muon_is_torchs_muon_on_matrices_and_adamw_on_the_rest() -> None:
    ours, theirs = net(), net()
    optimizer = Muon(lr=0.01, weight_decay=0.1).build(ours)
    steps_of(optimizer, list(ours.parameters()))
    conv, linear = theirs[0], theirs[3]  # type: ignore[index]
    flat = torch.nn.Parameter(conv.weight.detach().permute(0, 2, 3, 1).flatten(1).clone())
    muon = torch.optim.Muon(
        [flat, linear.weight], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    rest = [p for p in theirs.parameters() if p.ndim == 1]
    adamw = torch.optim.AdamW(rest, lr=0.01, weight_decay=0.0)
    draws = torch.Generator().manual_seed(1)
    for _ in range(5):
        for p in theirs.parameters():
            p.grad = torch.randn(p.shape, generator=draws)
        flat.grad = conv.weight.grad.permute(0, 2, 3, 1).flatten(1)
        muon.step()
        adamw.step()
    torch.testing.assert_close(ours[0].weight.permute(0, 2, 3, 1).flatten(1), flat)  # type: ignore[index]
    torch.testing.assert_close(ours[3].weight, linear.weight)  # type: ignore[index]
    for mine, other in zip([p for p in ours.parameters() if p.ndim == 1], rest, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("spec", [SGD(l1=0.1, weight_decay=0.0), AdamW(l1=0.1), Muon(l1=0.1)])
def test_l1_is_added_to_the_gradient_of_weights_only(spec: Optimizing) -> None:
    """Against the gradient of `l1 * sum(abs(weight))` by autograd, fed to the one without."""
    import msgspec

    ours, theirs = net(), net()
    ours_opt = spec.build(ours)
    theirs_opt = msgspec.structs.replace(spec, l1=0.0).build(theirs)
    draws = torch.Generator().manual_seed(2)
    for _ in range(3):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.empty_like(mine).normal_(generator=draws)
            other.grad = mine.grad.clone()
        penalty = sum(0.1 * p.abs().sum() for p in theirs.parameters() if p.ndim > 1)
        assert isinstance(penalty, torch.Tensor)
        penalty.backward()
        ours_opt.step()
        theirs_opt.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


class TwoParts(torch.nn.Module):
    """A backbone and a head, as a pretrained network has."""

    def __init__(self) -> None:
        super().__init__()
        self.freeze_epochs, self.backbone_lr = 2.0, 0.1
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        self.last = torch.nn.Linear(4, 2)

    def backbone(self) -> list[torch.nn.Module]:
        return [self.body]

    def head(self) -> torch.nn.Module:
        return self.last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.body(x))
        return y


def test_a_backbone_follows_the_rate_at_a_distance() -> None:
    model = TwoParts()
    optimizer = SGD(lr=0.5).build(model)
    assert set_lr(optimizer, 0.2) == 0.2
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert {rates[id(p)] for p in model.body.parameters()} == {0.2 * 0.1}
    assert {rates[id(p)] for p in model.last.parameters()} == {0.2}


def test_a_frozen_backbone_does_not_move_and_then_does() -> None:
    model = TwoParts()
    mode = training_mode(model, steps_per_epoch=3)
    optimizer = SGD(lr=0.5, weight_decay=0.1).build(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    draws = torch.Generator().manual_seed(0)
    for step in range(8):
        mode(model, step)
        model(torch.randn(5, 4, generator=draws)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        moved = {
            name for name, value in model.state_dict().items() if not value.equal(before[name])
        }
        if step < 6:
            assert moved == {"last.weight", "last.bias"}
    assert moved == set(before)
