"""Momentum as a rolling ball: on a slope, in a ravine, over a bump; and what decay adds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pellucid.errors import UserError
from pellucid.labs import rules
from pellucid.labs.options import lab, options, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_least, at_most, equals, is_true
from pellucid.labs.surfaces import end, gradient_of, point, quadratic, walk
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = (1.0, 20.0)
"""Curvature along and across the ravine of `quadratic`."""


@lab
def run(
    *,
    momentum: Annotated[float, ranged("share of the speed that is kept", 0, 0.99)] = 0.9,
    lr: Annotated[float, ranged("learning rate in the ravine", 1e-3, 0.2)] = 0.04,
    steps: Annotated[int, ranged("in the ravine", 10, 1000)] = 60,
    decay: Annotated[float, ranged("factor of the rate per step, in the noise", 0.9, 1)] = 0.98,
    noise: Annotated[float, ranged("spread of the gradient's error", 0, 5)] = 1.0,
    seed: Annotated[int, ranged("of the noise", 0, 10**6)] = 0,
) -> LabResult:
    """Roll a ball along a slope and through a ravine, and let it settle in noise."""
    begin = point(-4, 1.5)
    gradient = gradient_of(quadratic)
    plain = walk(rules.sgd(gradient, begin, lr=lr), begin, steps)
    heavy = walk(rules.sgd(gradient, begin, lr=lr, momentum=momentum), begin, steps)
    best_lr, best = tuned()
    settled = {
        "constant": _settled(1.0, noise, seed),
        "decayed": _settled(decay, noise, seed),
    }
    text = f"""
        A ball keeps a share mu of its speed and gains what the slope gives:

            v <- mu v + g        w <- w - lr v

        On a steady slope its speed grows to g / (1 - mu): with mu = {momentum:g} the step is
        {1 / (1 - momentum):.4g} times as long as without. Where the slope changes its sign from
        step to step, as across a ravine, the parts cancel.

        The ravine is (x^2 + 20 y^2) / 2. Across, the curvature is 20, so lr must stay below
        2 / 20 = 0.1; along, it is 1, and descent gets only lr = {lr:g} of the way per step. After
        {steps} steps from (-4, 1.5) descent is {float(plain[-1].norm()):.3g} from the minimum, with
        momentum it is {float(heavy[-1].norm()):.3g}. Too much momentum swings: the best for this
        ravine (condition number kappa = 20) is known,

            mu = ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))^2 = {best:.4f}   lr = {best_lr:.4f}

        The speed may carry the ball over the bump between two wells: out of a poor one, and as well
        out of a good one. In noise (spread {noise:g}) a constant rate never settles, it keeps
        jumping about the minimum: mean distance {_late(settled["constant"]):.3g} over the last
        fifty of 300 steps.
        With a rate that falls by the factor {decay:g} per step it is
        {_late(settled["decayed"]):.3g}.
    """
    rows = [
        (f"{mu:g}", float(end(rules.sgd(gradient, begin, lr=lr, momentum=mu), steps).norm()))
        for mu in sorted({0.0, 0.5, 0.9, 0.99, momentum})
    ]
    claims = [*_slope(momentum), *_ravine(), *_bump(), *_noise(), *_range()]
    return LabResult(
        text, claims, partial(_draw, {"descent": plain, f"momentum {momentum:g}": heavy}, settled),
        [Table(("momentum", f"distance from the minimum after {steps} steps"), rows)],
        {"descent": plain[-1].tolist(), "momentum": heavy[-1].tolist()},
    )  # fmt: skip


def tuned() -> tuple[float, float]:
    """Return the best learning rate and momentum for the ravine; Polyak (1964)."""
    low, high = (curve**0.5 for curve in CURVES)
    return (2 / (high + low)) ** 2, ((high - low) / (high + low)) ** 2


def wells(w: Tensor) -> Tensor:
    """Return a curve with two minima: a good one at -1.04, a poor one at 0.96."""
    return (w**2 - 1) ** 2 + 0.3 * w


def _settled(decay: float, noise: float, seed: int) -> Tensor:
    """Return the distance from the minimum of w^2 / 2 at each of 300 steps with noise."""
    draws = generator(seed, "lab")
    w, far = torch.full((200,), 4.0, dtype=torch.float64), []
    for step in range(300):
        error = noise * torch.randn(200, generator=draws, dtype=torch.float64)
        w = w - 0.3 * decay**step * (w + error)
        far.append(w.abs().mean())
    return torch.stack(far)


def _late(far: Tensor) -> float:
    return float(far[-50:].mean())


def _slope(momentum: float) -> list[Claim]:
    start = torch.zeros(1, dtype=torch.float64)
    path = walk(rules.sgd(torch.ones_like, start, lr=1.0, momentum=momentum), start, 3000)
    steps = -path.diff(dim=0).flatten()
    third = 1 + momentum + momentum**2
    return [
        equals("On a slope the third step is 1 + mu + mu^2 times as long", float(steps[2]), third,
               1e-9, "T6.5"),
        equals("and in the end 1 / (1 - mu) times", float(steps[-1]), 1 / (1 - momentum), 1e-6,
               "T6.5"),
    ]  # fmt: skip


def _ravine() -> list[Claim]:
    gradient, begin = gradient_of(quadratic), point(-4, 1.5)
    lr, mu = tuned()

    def far(momentum: float, rate: float) -> float:
        return float(end(rules.sgd(gradient, begin, lr=rate, momentum=momentum), 60).norm())

    speed = far(mu, lr) ** (1 / 60)
    return [
        at_most("In 60 steps the tuned ball comes nearer than 0.99 keeps it (ratio)",
                far(mu, lr) / far(0.99, lr), 1e-3, "T6.14"),
        at_least("Too much momentum is slower than none, at descent's best rate (ratio)",
                 far(0.99, 2 / 21) / far(0.0, 2 / 21), 10, "T6.14"),
        equals("Descent at its best rate shrinks the distance by (kappa - 1) / (kappa + 1) a step",
               far(0.0, 2 / 21) / float(begin.norm()), (19 / 21) ** 60, 1e-9),
        at_most("The tuned ball needs fewer steps: its factor per step, with start-up",
                speed, 0.75),
    ]  # fmt: skip


def roll(start: float, momentum: float) -> Tensor:
    """Return the way of a ball through the two wells, 400 steps."""
    begin = torch.tensor([start], dtype=torch.float64)
    return walk(rules.sgd(gradient_of(wells), begin, lr=0.01, momentum=momentum), begin, 400)


def _bump() -> list[Claim]:
    """Return where a ball and a walker end that start above the poor well, and above the good."""
    ends = {
        (start, mu): float(wells(roll(start, mu)[-1])) for start in (2.0, -2.0) for mu in (0, 0.85)
    }
    return [
        at_least("A ball rolls out of the poor well, where a walker stays: it ends lower by",
                 ends[2.0, 0] - ends[2.0, 0.85], 0.5, "T6.18"),
        at_least("and from the other side out of the good one: it ends higher by",
                 ends[-2.0, 0.85] - ends[-2.0, 0], 0.5, "T6.18"),
    ]  # fmt: skip


def _noise() -> list[Claim]:
    constant, decayed = (_late(_settled(decay, 1.0, 0)) for decay in (1.0, 0.98))
    expected = (0.3 / (2 - 0.3) * 2 / torch.pi) ** 0.5  # E|w| of a normal with that variance
    return [
        equals("In noise of spread 1 a constant rate 0.3 stays at sqrt(lr / (2 - lr)) times "
               "sqrt(2 / pi)", constant, expected, 0.02),
        at_most("A decayed rate settles: its distance over that of the constant one",
                decayed / constant, 0.5),
    ]  # fmt: skip


def _range() -> list[Claim]:
    """Return what happens at a momentum of 1, and who refuses it."""
    accepted = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=1.5) is not None
    try:
        options(run)["momentum"].read(1.0)
        refused = False
    except UserError:
        refused = True
    start = torch.ones(1, dtype=torch.float64)
    last = end(rules.sgd(lambda w: w, start, lr=0.1, momentum=1.0), 2000)
    return [
        is_true("PyTorch accepts a momentum of 1.5, this lab none from 1 on", accepted and refused,
                "T6.17"),
        at_least("At 1 nothing decays: after 2,000 steps the ball still swings", abs(float(last))
                 + abs(float(next(rules.sgd(lambda w: w, last, lr=0.1)))), 0.01, "T6.17"),
    ]  # fmt: skip


def _draw(paths: dict[str, Tensor], settled: dict[str, Tensor]) -> Figure:
    from pellucid.labs.drawing import BLUE, GREEN, RED, finish, landscape, sheet

    figure, (plan, far, two, late) = sheet(
        "Momentum in a ravine and in two wells, decay in noise", 2, 2, size=(11, 8)
    )
    landscape(plan, quadratic, (-5, 5, -3, 3))
    for (name, path), colour in zip(paths.items(), (BLUE, RED), strict=True):
        plan.plot(*path.clamp(-10, 10).T, color=colour, marker=".", linewidth=1, label=name)
        far.plot(path.norm(dim=1).clamp(1e-12, 1e3), color=colour, label=name)
    plan.set(xlim=(-5, 5), ylim=(-3, 3))
    far.set_yscale("log")
    for (name, course), colour in zip(settled.items(), (BLUE, RED), strict=True):
        late.plot(course, color=colour, label=f"{name} rate")
    late.set_yscale("log")
    xs = torch.linspace(-2.1, 2.1, 200, dtype=torch.float64)
    two.plot(xs, wells(xs), color="#999999")
    for start, mu, colour, mark in ((2.0, 0.0, BLUE, "s"), (2.0, 0.85, RED, "o"),
                                    (-2.0, 0.85, GREEN, "o")):  # fmt: skip
        way = roll(start, mu).flatten()
        two.plot(way, wells(way), ".", color=colour, markersize=3)
        two.plot(way[-1], wells(way[-1]), mark, color=colour, markersize=9,
                 label=f"from {start:g}, momentum {mu:g}: ends here")  # fmt: skip
    finish(two, "two wells", "w", "f", legend=True)
    finish(plan, "through the ravine", "x", "y", legend=True)
    finish(far, "distance from the minimum", "steps", "distance", legend=True)
    finish(late, "noise: mean distance of 200 walkers", "steps", "distance", legend=True)
    return figure
