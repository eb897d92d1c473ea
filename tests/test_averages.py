"""Averages of the weights: torch's, Zhang's and airbench's."""

from __future__ import annotations

import torch

from pellucid.assemble import assemble
from pellucid.averages import EMA, Grown
from pellucid.engine import Engine
from pellucid.plan import steps
from pellucid.recipe import EMASpec, Recipe


def test_ema_is_torchs_average() -> None:
    """Against `swa_utils.AveragedModel`, once the warm-up of the decay is over."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    ours = EMA(model, decay=0.9)
    ours.updates = 1000
    theirs = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=False
    )
    theirs.update_parameters(model)  # their first update is a copy, as our start is
    draws = torch.Generator().manual_seed(0)
    for _ in range(10):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=draws))
        model(torch.randn(5, 4, generator=draws))
        ours.update(model)
        theirs.update_parameters(model)
    for mine, other in zip(ours.model.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    assert torch.equal(ours.model[1].running_mean, model[1].running_mean)  # type: ignore[index]


def test_lookahead_steps_back_every_k_steps() -> None:
    """Zhang et al. (2019), algorithm 1: slow += alpha (fast - slow); fast = slow."""
    model = torch.nn.Linear(4, 3)
    ours = EMA(model, decay=0.5, every=5, pull=True)
    ours.updates = 5000
    slow = [p.detach().clone() for p in model.parameters()]
    fast = [p.detach().clone() for p in model.parameters()]
    draws = torch.Generator().manual_seed(0)
    for step in range(1, 21):
        with torch.no_grad():
            for mine, theirs in zip(model.parameters(), fast, strict=True):
                change = torch.randn(mine.shape, generator=draws)
                mine.add_(change)
                theirs.add_(change)
        ours.update(model)
        if step % 5 == 0:
            slow = [s + 0.5 * (f - s) for s, f in zip(slow, fast, strict=True)]
            fast = [s.clone() for s in slow]
        for mine, theirs in zip(model.parameters(), fast, strict=True):
            torch.testing.assert_close(mine.detach(), theirs)
        for mine, theirs in zip(ours.model.parameters(), slow, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_the_decay_of_lookahead_grows_with_the_run() -> None:
    """Against airbench's rule: 0.95^5 * (share of the run)^3, every 5 steps; then `lerp_`."""
    model = torch.nn.Linear(4, 3)
    ours = EMASpec(decay=0.95**5, every=5, pull=True, growth=3.0).build(model, steps=40)
    slow = [p.detach().clone() for p in model.parameters()]
    draws = torch.Generator().manual_seed(0)
    for step in range(1, 41):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=draws))
        fast = [p.detach().clone() for p in model.parameters()]
        ours.update(model)
        if step % 5 == 0:
            alpha = 0.95**5 * (step / 40) ** 3
            slow = [s.lerp(f, 1 - alpha) for s, f in zip(slow, fast, strict=True)]
            fast = slow
        for mine, theirs in zip(model.parameters(), fast, strict=True):
            torch.testing.assert_close(mine.detach(), theirs)


def test_growth_is_over_the_steps_of_the_whole_run(tiny: Recipe) -> None:
    recipe = tiny.with_(ema=EMASpec(decay=0.5, growth=2.0), length=steps(20))
    ema = assemble(recipe, Engine.start(recipe.engine)).state.ema
    assert isinstance(ema, EMA)
    assert ema.grown == Grown(20, 2.0)
