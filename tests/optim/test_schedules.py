"""Each schedule is its namesake in torch, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from pellucid.optim.plateau import Plateau
from pellucid.optim.schedules import WARMUP_START, Constant, Cosine, PlateauSpec, StepDecay
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


def ours(spec: Constant | Cosine | StepDecay | PlateauSpec) -> list[float]:
    schedule = spec.build(LR, STEPS, PER_EPOCH)
    return [schedule(step) for step in range(STEPS)]


@pytest.mark.parametrize(
    ("spec", "build", "every"),
    [
        (Constant(), lambda o: ConstantLR(o, factor=1.0), 1),
        (PlateauSpec(), lambda o: ConstantLR(o, factor=1.0), 1),
        (StepDecay(epochs=2, gamma=0.5), lambda o: StepLR(o, 2, 0.5), PER_EPOCH),
        (Cosine(), lambda o: CosineAnnealingLR(o, STEPS), 1),
        (Cosine(floor=0.1), lambda o: CosineAnnealingLR(o, STEPS, eta_min=0.1 * LR), 1),
        (Constant(warmup=0.2), lambda o: LinearLR(o, WARMUP_START, 1.0, total_iters=12), 1),
    ],
)
def test_equals_torch(
    spec: Constant, build: Callable[[torch.optim.Optimizer], LRScheduler], every: int
) -> None:
    torch.testing.assert_close(
        torch.tensor(ours(spec), dtype=torch.float64),
        torch.tensor(of_torch(build, every), dtype=torch.float64),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


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
