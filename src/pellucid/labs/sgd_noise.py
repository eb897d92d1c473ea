"""Real SGD: a finite sum, batches drawn from it, and the cloud about the minimum that stays.

The loss is the mean over N samples of lambda / 2 * (w - c_i)^2 in two directions. A batch of B,
drawn with replacement, gives a gradient whose error has the variance sigma^2 = lambda^2 s^2 / B,
where s^2 is the variance of the c_i. Then w is a first-order autoregression around the mean of the
c_i.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pellucid.labs import rules
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_most, equals, is_true
from pellucid.labs.surfaces import walk
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = (1.0, 4.0)
"""Curvature lambda along x and along y."""
SAMPLES, WALKERS, START = 200, 1000, 3.0


@lab
def run(
    *,
    lr: Annotated[float, ranged("learning rate; 2 / 4 is the limit", 0.05, 0.4)] = 0.1,
    batch: Annotated[int, ranged("samples in a batch, with replacement", 1, 100)] = 8,
    steps: Annotated[int, ranged("of each walker", 400, 1000)] = 400,
    seed: Annotated[int, ranged("of samples and batches", 0, 10**6)] = 0,
) -> LabResult:
    """Let 1,000 walkers go down a finite sum by batches, and measure their cloud."""
    centres = samples(seed)
    path = walkers(centres, lr, batch, steps, seed)
    found, said = cloud(path), stationary(centres, lr, batch)
    half, twice = (cloud(walkers(centres, r, b, steps, seed))
                   for r, b in ((lr / 2, batch), (lr, 2 * batch)))  # fmt: skip
    whole = descent(centres, lr, steps)
    text = f"""
        The loss is a mean over N = {SAMPLES} samples, in each of two directions

            L(w) = 1/N sum_i lambda / 2 * (w - c_i)^2,     lambda = {CURVES[0]:g} and {CURVES[1]:g}

        Its gradient over all samples is lambda (w - mean c): descent on it arrives. A batch of
        B = {batch}, drawn with replacement, has an error of variance
        sigma^2 = lambda^2 Var(c) / B in its gradient, here
        {float(noise(centres, batch)[0]):.4g} and {float(noise(centres, batch)[1]):.4g}. Each step
        then shrinks the distance and adds noise, until both are in balance:

            w - mean <- (1 - lr lambda) (w - mean) + lr * error
            variance  = lr sigma^2 / (lambda (2 - lr lambda))
                      = {float(said[0]):.5f} and {float(said[1]):.5f}

        {WALKERS:,} walkers measure {float(found[0]):.5f} and {float(found[1]):.5f}. With
        half the rate they have {float((half / found)[0]):.2f} of that along x, with twice the batch
        {float((twice / found)[0]):.2f}. That is why rates fall at the end of training, and why a
        larger batch bears a larger rate. Descent on all samples, with lr {lr:g}, is
        {float(whole.norm()):.2g} from the minimum.
    """
    rows = [
        (name, CURVES[k], float(noise(centres, batch)[k]), float(said[k]), float(found[k]),
         float(half[k]), float(twice[k]))
        for k, name in enumerate("xy")
    ]  # fmt: skip
    head = ("along", "lambda", "sigma^2", "variance, formula", "measured", "lr / 2", "2 B")
    claims = [
        *_balance(found, said), *_ratios(found, half, twice, lr, batch, centres),
        *_descent(whole, path, centres), *_unbiased(centres, batch, seed),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, path, said, centres, lr, batch), [Table(head, rows)],
        {"variance": found.tolist(), "formula": said.tolist()},
    )  # fmt: skip


def samples(seed: int) -> Tensor:
    """Return the places c_i of the samples' minima, (N, 2)."""
    return torch.randn(SAMPLES, 2, generator=generator(seed, "lab"), dtype=torch.float64)


def noise(centres: Tensor, batch: int) -> Tensor:
    """Return the variance sigma^2 of the gradient of a batch, (2,)."""
    curves = torch.tensor(CURVES, dtype=torch.float64)
    return curves**2 * centres.var(0, correction=0) / batch


def stationary(centres: Tensor, lr: float, batch: int) -> Tensor:
    """Return the variance of the cloud by the formula, (2,)."""
    curves = torch.tensor(CURVES, dtype=torch.float64)
    return lr * noise(centres, batch) / (curves * (2 - lr * curves))


def walkers(centres: Tensor, lr: float, batch: int, steps: int, seed: int) -> Tensor:
    """Return the points of 1,000 walkers, (steps + 1, 1000, 2)."""
    draws = generator(seed, "lab", batch)
    curves = torch.tensor(CURVES, dtype=torch.float64)

    def gradient(w: Tensor) -> Tensor:
        rows = torch.randint(SAMPLES, (WALKERS, batch), generator=draws)
        return curves * (w - centres[rows].mean(1))

    start = torch.full((WALKERS, 2), START, dtype=torch.float64)
    return walk(rules.sgd(gradient, start, lr=lr), start, steps)


def descent(centres: Tensor, lr: float, steps: int) -> Tensor:
    """Return how far descent on all samples ends from the minimum, (2,)."""
    curves = torch.tensor(CURVES, dtype=torch.float64)
    start = torch.full((2,), START, dtype=torch.float64)
    path = rules.sgd(lambda w: (curves * (w - centres)).mean(0), start, lr=lr)
    return walk(path, start, steps)[-1] - centres.mean(0)


def cloud(path: Tensor) -> Tensor:
    """Return the variance of the walkers about their mean over the last 100 steps, (2,)."""
    late = path[-100:]
    return (late - late.mean((0, 1))).square().mean((0, 1))


def _balance(found: Tensor, said: Tensor) -> list[Claim]:
    """Return whether the cloud is as wide as the formula says, up to chance.

    Of 1,000 independent walkers the variance of one moment has a relative error of
    sqrt(2 / 1000) = 0.045; the 100 steps are not independent, and only make it smaller.
    """
    return [
        equals(f"Along {name}: measured variance over the formula's", found[k] / said[k], 1, 0.15)
        for k, name in enumerate("xy")
    ]


def _ratios(
    found: Tensor, half: Tensor, twice: Tensor, lr: float, batch: int, centres: Tensor
) -> list[Claim]:
    expected = stationary(centres, lr / 2, batch) / stationary(centres, lr, batch)
    return [
        equals("Twice the batch: half the variance", (twice / found).mean(), 0.5, 0.08),
        equals("Half the rate: along x the variance falls to", (half / found)[0], expected[0],
               0.08),
        is_true("which is half, or a little less", 0.4 < float(expected[0]) <= 0.5),
    ]  # fmt: skip


def _descent(whole: Tensor, path: Tensor, centres: Tensor) -> list[Claim]:
    late = path[-100:].mean((0, 1)) - centres.mean(0)
    return [
        at_most("On all samples there is no noise: distance of descent", whole.norm(), 0.01,
                "T6.1"),
        at_most("Batches do not move the middle of the cloud: distance from the minimum",
                late.norm(), 0.05),
    ]  # fmt: skip


def _unbiased(centres: Tensor, batch: int, seed: int) -> list[Claim]:
    """Return mean and variance of the gradient of batches at one place, against the formula."""
    draws = generator(seed, "lab", 10_000)
    curves = torch.tensor(CURVES, dtype=torch.float64)
    rows = torch.randint(SAMPLES, (20_000, batch), generator=draws)
    slopes = curves * (1.0 - centres[rows].mean(1))
    error = noise(centres, batch)
    mean = curves * (1.0 - centres.mean(0))
    return [
        at_most("The gradient of a batch is right on average: error in standard errors",
                ((slopes.mean(0) - mean) / (error / 20_000).sqrt()).abs().max(), 5),
        equals("and its variance is lambda^2 Var(c) / B: ratio",
               (slopes.var(0) / error).mean(), 1, 0.06),
    ]  # fmt: skip


def _draw(path: Tensor, said: Tensor, centres: Tensor, lr: float, batch: int) -> Figure:
    from pellucid.labs.drawing import BLUE, GREY, RED, finish, sheet

    figure, (plan, course) = sheet(f"SGD on a finite sum: lr {lr:g}, batches of {batch}", 2,
                                   size=(12, 5.4))  # fmt: skip
    middle = centres.mean(0)
    plan.plot(*path[:60, 0].T, color=GREY, linewidth=0.8, marker=".", markersize=3,
              label="one walker, 60 steps")  # fmt: skip
    plan.plot(*path[-1].T, ".", color=BLUE, markersize=3, label="1,000 walkers, last step")
    turn = torch.linspace(0, 2 * torch.pi, 200, dtype=torch.float64)
    ring = torch.stack([turn.cos(), turn.sin()]) * 2 * said.sqrt()[:, None] + middle[:, None]
    plan.plot(*ring, color=RED, label="two standard deviations, formula")
    plan.plot(*middle, "k+", markersize=12, label="minimum")
    spread = path.var(1)
    for k, (name, style) in enumerate((("x", "-"), ("y", "--"))):
        course.plot(spread[:, k], color=BLUE, linestyle=style, label=f"along {name}, measured")
        course.axhline(float(said[k]), color=RED, linestyle=style, label=f"along {name}, formula")
    course.set_ylim(0, 1.4 * float(said.max()))
    finish(plan, "the cloud about the minimum", "x", "y", legend=True)
    finish(course, "variance of 1,000 walkers", "steps", "variance", legend=True)
    return figure
