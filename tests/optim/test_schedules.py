"""Each schedule is its namesake in torch, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from pellucid.optim.plateau import Plateau
from pellucid.optim.schedules import (
    WARMUP_START,
    Constant,
    Cosine,
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    PlateauSpec,
    StepDecay,
    Warmed,
)
from pellucid.values import Metrics

STEPS, PER_EPOCH, LR = 60, 12, 0.3


def of_torch(build: Callable[[torch.optim.Optimizer], LRScheduler], every: int = 1) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = build(optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if (step + 1) % every == 0:
                scheduler.step()
    return rates


def ours(spec: Any) -> list[float]:
    schedule = spec.build(LR, STEPS, PER_EPOCH)
    return [schedule(step) for step in range(STEPS)]


@pytest.mark.parametrize(
    ("spec", "build", "every"),
    [
        (Constant(), lambda o: ConstantLR(o, factor=1.0), 1),
        (PlateauSpec(), lambda o: ConstantLR(o, factor=1.0), 1),
        (StepDecay(epochs=2, gamma=0.5), lambda o: StepLR(o, 2, 0.5), PER_EPOCH),
        (MultiStep(milestones=(1, 4)), lambda o: MultiStepLR(o, [1, 4], 0.1), PER_EPOCH),
        (Exponential(gamma=0.8), lambda o: ExponentialLR(o, 0.8), PER_EPOCH),
        (Linear(), lambda o: LinearLR(o, 1.0, 0.0, total_iters=STEPS), 1),
        (Linear(floor=0.2), lambda o: LinearLR(o, 1.0, 0.2, total_iters=STEPS), 1),
        (OneCycle(), lambda o: OneCycleLR(o, LR, total_steps=STEPS, cycle_momentum=False), 1),
        (
            OneCycle(rise=0.5, start=0.1, end=0.01),
            lambda o: OneCycleLR(
                o, LR, total_steps=STEPS, pct_start=0.5, div_factor=10, final_div_factor=100,
                cycle_momentum=False,
            ),
            1,
        ),
        (Cosine(), lambda o: CosineAnnealingLR(o, STEPS), 1),
        (Cosine(floor=0.1), lambda o: CosineAnnealingLR(o, STEPS, eta_min=0.1 * LR), 1),
        (Constant(warmup=0.2), lambda o: LinearLR(o, WARMUP_START, 1.0, total_iters=12), 1),
    ],
)  # fmt: skip
def test_equals_torch(
    spec: Constant, build: Callable[[torch.optim.Optimizer], LRScheduler], every: int
) -> None:
    torch.testing.assert_close(
        torch.tensor(ours(spec), dtype=torch.float64),
        torch.tensor(of_torch(build, every), dtype=torch.float64),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize(
    "spec", [Cosine, Linear, Exponential, MultiStep, StepDecay, PlateauSpec, Constant]
)
def test_a_warm_up_goes_before_any_of_them(spec: type[Warmed]) -> None:
    few = {"milestones": (1, 2)} if spec is MultiStep else {}
    few = {"epochs": 2} if spec is StepDecay else few
    plain, warmed = ours(spec(**few)), ours(spec(warmup=0.5, **few))
    assert plain[30:] == warmed[30:]
    assert all(a < b for a, b in zip(warmed[:30], plain[:30], strict=True))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (StepDecay(epochs=5), "cut after epoch 5, but the run ends with epoch 5"),
        (MultiStep(milestones=(2, 9)), "cut after epoch 9, but the run ends with epoch 5"),
    ],
)
def test_a_schedule_longer_than_the_run_is_refused(spec: StepDecay, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec.build(LR, STEPS, PER_EPOCH)


def test_one_cycle_needs_room() -> None:
    with pytest.raises(ValueError, match="onecycle needs a longer run"):
        OneCycle().build(LR, 3, PER_EPOCH)


def test_milestones_rise() -> None:
    with pytest.raises(ValueError, match=r"milestones must rise; got \[8, 5\]"):
        MultiStep(milestones=(8, 5))


def test_warm_up_scales_what_follows() -> None:
    plain, warmed = ours(Cosine()), ours(Cosine(warmup=0.5))
    assert plain[30:] == warmed[30:]
    assert warmed[0] == pytest.approx(WARMUP_START * plain[0])
    assert all(a < b for a, b in zip(warmed[:30], plain[:30], strict=True))


def test_plateau_equals_torch_on_random_losses() -> None:
    draws = torch.Generator().manual_seed(0)
    for case in range(200):
        losses = torch.rand(40, generator=draws).cumsum(0).div(torch.arange(1, 41)).tolist()
        patience, cooldown = case % 4, case % 3
        rule = Plateau(0.5, patience, 0.01, cooldown, floor=0.01)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
        theirs = ReduceLROnPlateau(
            optimizer, factor=0.5, patience=patience, threshold=0.01, cooldown=cooldown, min_lr=0.01
        )
        for loss in losses:
            rule.offer(Metrics(loss, 1, 2))
            theirs.step(loss)
            assert rule.lower(LR) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_no_images_are_no_news() -> None:
    rule = Plateau(0.5, 0, 0.01, 0, 0.0)
    for _ in range(5):
        rule.offer(Metrics(float("nan"), 0, 0))
    assert rule.lower(LR) == LR
    assert rule.best is None
