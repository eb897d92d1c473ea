"""The learning-rate range test: one short training while the rate grows, until the loss swings.

Leslie N. Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), section 3.3; there
the rate grows in a straight line, here by a constant factor, so that seven powers of ten fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from pellucid.assemble import Assembled
from pellucid.checks.preflight_learning import fresh, unjudged
from pellucid.engine import Engine
from pellucid.loop import fit
from pellucid.recipe import Recipe
from pellucid.values import Step

SGD_FROM, ADAPTIVE_FROM = 1e-4, 1e-6
"""First rates. A step of SGD is the rate times the gradient; one of the adaptive optimizers (Adam
and its kin) about the rate itself, whatever the gradient."""
DECADES, PER_DECADE = 7, 40
"""Powers of ten that are gone through at most, and steps for each."""
MOMENTUM = 0.9
"""Of the running mean that decides when to stop."""
BLOWN = 4.0
"""The test ends when this mean is so many times its least value."""
HALF = 10
"""The curve is smoothed over so many steps to each side: half a power of ten in all."""
SWING = 0.1
"""The loss swings when the smoothed curve has gone back up by this share of its whole fall."""
ROOM = 3.0
"""The proposal is the largest rate before the swing divided by this."""
LEARNS = 0.05
"""Something is learned if the smoothed loss falls by this share of its start."""


@dataclass(frozen=True)
class LRRange:
    """What a range test found.

    Args:
        rates: learning rate of each step, rising.
        losses: mean loss of each step's batch before the step; the last may not be finite.
        smoothed: the curve that the rules look at.
        edge: the largest rate before the loss swings, at which the smoothed loss is still least.
        steepest: the rate at which it falls fastest.
        proposal: a third of `edge`; None if nothing was learned.
        why: a sentence on the proposal.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    edge: float | None
    steepest: float | None
    proposal: float | None
    why: str


def lr_range(recipe: Recipe, engine: Engine, built: Assembled) -> LRRange:
    """Run the test on the recipe as it is, but for its learning rates.

    A fresh model is trained by the loop itself; neither its rate nor its schedule plays a part.
    At most 280 steps; most tests end after 150 to 200.

    Args:
        recipe: what `built` was made of.
        engine: likewise.
        built: not touched.
    """
    first = SGD_FROM if isinstance(built.state.optimizer, torch.optim.SGD) else ADAPTIVE_FROM
    steps = DECADES * PER_DECADE + 1
    state, engine = fresh(recipe, engine, built)
    task = replace(
        unjudged(built.task, steps), schedule=lambda step: first * 10 ** (step / PER_DECADE)
    )
    pairs = list(_until_blown(fit(state, task, engine)))
    return analyse([lr for lr, _ in pairs], [loss for _, loss in pairs])


def _until_blown(steps: Iterator[Step]) -> Iterator[tuple[float, float]]:
    """Yield rate and loss of each step, until the loss explodes or is no number."""
    running, least = 0.0, math.inf
    for number, step in enumerate(steps, 1):
        loss = float(step.loss)
        yield step.lr, loss
        running = MOMENTUM * running + (1 - MOMENTUM) * loss
        mean = running / (1 - MOMENTUM**number)  # without a pull towards its start at 0
        if number > HALF:
            least = min(least, mean)
        if not mean <= BLOWN * least:
            return


def analyse(rates: Sequence[float], losses: Sequence[float]) -> LRRange:
    """Return what the curve of `losses` over `rates` says.

    Two rules are read off the smoothed curve. The notes': go up until the loss swings and take the
    largest rate before that: the last at which the curve is as low as it gets. The other: take the
    rate at which the loss falls fastest, which is safe. What holds for a few steps is too much for
    a whole run, so the proposal is a third of the first: half a power of ten below.

    Args:
        rates: rising.
        losses: as many.

    >>> rates = [10 ** (step / 40 - 4) for step in range(160)]
    >>> fall = [min(1, max(0, step / 40 - 1)) for step in range(160)]
    >>> losses = [2.3 - 2 * fall[step] + max(0, step - 140) for step in range(160)]
    >>> found = analyse(rates, losses)
    >>> round(found.steepest, 4), round(found.edge, 4), found.proposal
    (0.0042, 0.1778, 0.059)
    """
    curve = _smoothed(losses)
    swing = _swing(losses, curve)
    noise = _noise(losses, curve)
    least = min(curve[:swing])
    low = max(i for i in range(swing) if curve[i] <= least + noise)
    start = curve[0]
    found = tuple(rates), tuple(losses), tuple(curve)
    if len(curve) < 2 * HALF or not start - least > max(LEARNS * start, 5 * noise):
        why = (
            "The loss did not fall at any rate, so there is nothing to propose. Run the checks: "
            "pellucid preflight."
        )
        return LRRange(*found, None, None, None, why)
    slopes = [_slope(rates, curve, i) for i in range(low + 1)]
    edge, steepest = rates[low], rates[slopes.index(min(slopes))]
    proposal = float(f"{edge / ROOM:.2g}")
    why = (
        f"{proposal:g} is a third of the largest rate before the loss swings, {edge:.2g}: what "
        f"a few steps bear leaves no room for a whole run. {steepest:.2g}, where the loss falls "
        "fastest, is safer and slower."
    )
    return LRRange(*found, edge, steepest, proposal, why)


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Return means over `HALF` steps to each side, fewer near the ends, of clipped losses.

    Clipped at twice the first ones, or an explosion would reach back and hide what came before.
    """
    first = [loss for loss in losses[:HALF] if math.isfinite(loss)]
    top = 2 * sum(first) / max(1, len(first))
    clipped = [min(loss, top) if math.isfinite(loss) else top for loss in losses]
    means = []
    for i in range(len(clipped)):
        window = clipped[max(0, i - HALF) : i + HALF + 1]
        means.append(sum(window) / len(window))
    return means


def _noise(losses: Sequence[float], curve: Sequence[float]) -> float:
    """Return the standard error of the smoothed curve: from the median distance to it."""
    far = sorted(abs(a - b) for a, b in zip(losses, curve, strict=True) if math.isfinite(a))
    deviation = 1.48 * far[len(far) // 2] if far else 0.0  # 1.48: of a normal distribution
    return deviation / math.sqrt(2 * HALF + 1)


def _swing(losses: Sequence[float], curve: Sequence[float]) -> int:
    """Return the first step after the fall at which the curve has gone back up; else the end."""
    start, lowest = curve[0], math.inf
    much = max(SWING * (start - min(curve)), 3 * _noise(losses, curve))
    for i, value in enumerate(curve):
        lowest = min(lowest, value)
        if start - lowest > much and value - lowest > much:
            return i
    return len(curve)


def _slope(rates: Sequence[float], curve: Sequence[float], i: int) -> float:
    """Return the slope of the curve over the logarithm of the rate around step `i`."""
    half = max(1, HALF // 2)
    a, b = max(0, i - half), min(len(curve) - 1, i + half)
    return (curve[b] - curve[a]) / math.log(rates[b] / rates[a])
