"""The gradient as a slope: what the tangent promises, and which step no longer goes down."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, equals, is_true
from pellucid.labs.surfaces import gradient_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Curve(NamedTuple):
    """A function of one number, symmetric about 0, and its slope and curvature by hand."""

    formula: str
    f: Callable[[Tensor], Tensor]
    slope: Callable[[float], float]
    bend: Callable[[float], float]


CURVES = {
    "parabola": Curve("w^2", torch.square, lambda w: 2 * w, lambda w: 2.0),
    "quartic": Curve("w^4", lambda w: w**4, lambda w: 4 * w**3, lambda w: 12 * w**2),
}


@lab
def run(
    *,
    curve: Annotated[Literal["parabola", "quartic"], about("w^2 or w^4")] = "parabola",
    w: Annotated[float, ranged("where to stand", 0.1, 5)] = 2.0,
    lr: Annotated[float, ranged("learning rate of one step", 1e-4, 2)] = 0.01,
) -> LabResult:
    """Measure a slope, follow it, and find the step that is too long."""
    formula, f, slope_of, bend_of = CURVES[curve]
    here = _value(f, w)
    g = slope_of(w)
    there = w - lr * g
    limit = 2 * w / g  # the mirror point of a symmetric curve is as high
    text = f"""
        L = {formula}. At w = {w:g} the loss is {here:.5g} and the slope is dL/dw = {g:.5g}. The
        tangent promises that a small change d changes the loss by slope * d:

            L(w + d) = L(w) + slope * d + curvature / 2 * d^2 + ...
            L({w + 0.1:g}) is about {here:.5g} + {g:.5g} * 0.1 = {here + 0.1 * g:.5g}; it is {
        _value(f, w + 0.1):.5g}
            L({w - 0.1:g}) is about {here:.5g} - {g:.5g} * 0.1 = {here - 0.1 * g:.5g}; it is {
        _value(f, w - 0.1):.5g}

        A step against the gradient is d = -lr * slope, so the promise is a fall of lr * slope^2:
        always downwards. What is left out grows with d^2: halve the step and it is a quarter, so
        a step that is small enough goes down, and one that is too long does not:

            w <- w - lr * slope = {w:g} - {lr:g} * {g:.5g} = {there:.5g}
            L: {here:.5g} -> {_value(f, there):.5g}, promised {here - lr * g * g:.5g}

        From w = {w:g} the loss falls as long as lr is below {limit:.4g}. There the step lands on
        the mirror image, at the same height; beyond it, it climbs.
    """
    steps = (0.25 * limit, 0.5 * limit, 0.99 * limit, limit, 1.01 * limit)
    rows = [
        (rate, w - rate * g, _value(f, w - rate * g), here - rate * g * g) for rate in (lr, *steps)
    ]
    claims = [*_here(curve, w), *_rates(curve, w, limit), *_known()]
    table = Table(("lr", "w after the step", "L there", "L promised"), rows)
    return LabResult(
        text, claims, partial(_draw, curve, w, lr, limit), [table],
        {"slope": g, "w": there, "largest_lr": limit},
    )  # fmt: skip


def _value(f: Callable[[Tensor], Tensor], w: float) -> float:
    return float(f(torch.tensor(w, dtype=torch.float64)))


def _here(curve: str, w: float) -> list[Claim]:
    """Return what holds where we stand."""
    formula, f, slope_of, bend_of = CURVES[curve]
    found = float(gradient_of(f)(torch.tensor(w, dtype=torch.float64)))

    def left_out(d: float) -> float:
        return _value(f, w + d) - _value(f, w) - slope_of(w) * d

    h = 1e-3 * w
    return [
        equals(f"The slope of {formula} by hand is autograd's", slope_of(w), found, 1e-9),
        equals("What the tangent leaves out falls to a quarter with half the step",
               left_out(h) / left_out(h / 2), 4, 0.01),
        equals("It is half the curvature times the step squared",
               left_out(h) / h**2, bend_of(w) / 2, 0.01 * bend_of(w)),
    ]  # fmt: skip


def _rates(curve: str, w: float, limit: float) -> list[Claim]:
    _, f, slope_of, _ = CURVES[curve]

    def after(rate: float) -> float:
        return _value(f, w - rate * slope_of(w)) / _value(f, w)

    return [
        is_true("A step of 0.99 times the limit goes down", after(0.99 * limit) < 1, "T6.15"),
        equals("at the limit it is as high as before", after(limit), 1, 1e-9, "T6.15"),
        is_true("and at 1.01 times the limit it climbs", after(1.01 * limit) > 1, "T6.15"),
    ]


def _known() -> list[Claim]:
    """Return the figures of w^2 at 2, whatever the options."""
    f, slope_of = CURVES["parabola"].f, CURVES["parabola"].slope
    w, g = 2.0, float(gradient_of(torch.square)(torch.tensor(2.0, dtype=torch.float64)))
    there = w - 0.01 * g
    return [
        equals("w^2 at 2: the slope is 4", g, 4, 0),
        equals("w^2 at 2: the tangent says 4.4 for 2.1", _value(f, w) + 0.1 * g, 4.4, 1e-12),
        equals("w^2 at 2: the tangent says 3.6 for 1.9", _value(f, w) - 0.1 * g, 3.6, 1e-12),
        equals("w^2 at 2: a step with lr 0.01 ends at 1.96", there, 1.96, 1e-12),
        equals("and its loss is that of the new point, 3.8416", _value(f, there), 3.8416, 1e-12,
               "T6.21"),
        equals("w^2 at 2: a change of +1 is +5, not +4", _value(f, w + 1) - 4, 5, 0, "T4.21"),
        equals("w^2 at 2: a change of -1 is -3, not -4", _value(f, w - 1) - 4, -3, 0, "T4.21"),
        equals("The limit for w^2 is 1 from everywhere", 2 * w / slope_of(w), 1, 0, "T6.15"),
    ]  # fmt: skip


def _draw(curve: str, w: float, lr: float, limit: float) -> Figure:
    from pellucid.labs.drawing import BLUE, GOLD, GREEN, RED, finish, sheet

    formula, f, slope_of, _ = CURVES[curve]
    g = slope_of(w)
    figure, (left, right) = sheet(f"The slope of L = {formula}, and a step against it", 2,
                                  size=(11, 4.6))  # fmt: skip
    xs = torch.linspace(-1.5 * w, 1.5 * w, 300, dtype=torch.float64)
    left.plot(xs, f(xs), color=BLUE, label=f"L = {formula}")
    near = torch.tensor([0.4 * w, 1.4 * w], dtype=torch.float64)
    here = _value(f, w)
    left.plot(near, here + g * (near - w), color=GOLD, linestyle="--",
              label=f"tangent, slope {g:.4g}")  # fmt: skip
    for rate, colour in ((lr, GREEN), (limit, RED)):
        to = w - rate * g
        left.annotate("", xy=(to, _value(f, to)), xytext=(w, here),
                      arrowprops={"arrowstyle": "-|>", "color": colour})  # fmt: skip
        left.plot(to, _value(f, to), "o", color=colour, label=f"step, lr {rate:.3g}: w = {to:.4g}")
    left.plot(w, here, "ko")
    left.set_ylim(-0.1 * here, float(f(xs).max()))
    left.set_xlim(-1.5 * w, 1.5 * w)
    finish(left, "the tangent is a promise for small steps", "w", "L", legend=True)
    rates = torch.linspace(0, 1.25 * limit, 200, dtype=torch.float64)
    right.plot(rates, f(w - rates * g), color=BLUE, label="L after one step")
    right.plot(rates, here - rates * g * g, color=GOLD, linestyle="--", label="promised")
    right.axhline(here, color="#999999", linewidth=0.8, label="L before")
    right.axvline(limit, color=RED, linestyle=":", label=f"limit, {limit:.4g}")
    right.set_ylim(-0.1 * here, 1.8 * here)
    finish(right, "the same step with every learning rate", "lr", "L", legend=True)
    return figure
