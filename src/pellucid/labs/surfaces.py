"""Surfaces to walk on: functions of two numbers, their gradients and their curvature."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.errors import UserError
from pellucid.labs.formula import parse
from pellucid.labs.rules import Gradient, Path

Function = Callable[[Tensor], Tensor]


def rosenbrock(p: Tensor) -> Tensor:
    """Return (1 - x)^2 + 100 (y - x^2)^2: a bent valley, its one minimum at (1, 1)."""
    x, y = p[..., 0], p[..., 1]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def himmelblau(p: Tensor) -> Tensor:
    """Return (x^2 + y - 11)^2 + (x + y^2 - 7)^2: four minima of the same height, 0."""
    x, y = p[..., 0], p[..., 1]
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def quadratic(p: Tensor) -> Tensor:
    """Return (x^2 + 20 y^2) / 2: a ravine, 20 times as steep across as along."""
    x, y = p[..., 0], p[..., 1]
    return (x**2 + 20 * y**2) / 2


def saddle(p: Tensor) -> Tensor:
    """Return x^2 - y^2: a minimum along x, a maximum along y, and no lowest place."""
    x, y = p[..., 0], p[..., 1]
    return x**2 - y**2


class Surface(NamedTuple):
    """A function and the window in which it is drawn: from x, to x, from y, to y."""

    f: Function
    window: tuple[float, float, float, float]


SURFACES = {
    "rosenbrock": Surface(rosenbrock, (-2, 2, -1.5, 3)),
    "himmelblau": Surface(himmelblau, (-6, 6, -6, 6)),
    "quadratic": Surface(quadratic, (-5, 5, -3, 3)),
    "saddle": Surface(saddle, (-3, 3, -3, 3)),
}


FORMULAS = {
    "rosenbrock": "(1 - x)^2 + 100*(y - x^2)^2",
    "himmelblau": "(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
    "quadratic": "(x^2 + 20*y^2) / 2",
    "saddle": "x^2 - y^2",
}
"""The same surfaces, as one writes them."""


def chosen(surface: str, formula: str, start: tuple[float, float]) -> Surface:
    """Return the surface of that name, or that of a formula if there is one.

    Raises:
        UserError: if the formula cannot be read, or has no height or slope at the start.
    """
    if not formula.strip():
        return SURFACES[surface]
    f = parse(formula)
    here = point(*start)
    height, slope = f(here), gradient_of(f)(here)
    if not (height.isfinite() and slope.isfinite().all()):
        raise UserError(
            f"At the start ({start[0]:g}, {start[1]:g}) the formula {formula} has the height "
            f"{float(height):g} and the slope ({float(slope[0]):g}, {float(slope[1]):g}): no walk "
            "can begin there. Give another --start."
        )
    far = max(3.0, 1.5 * max(map(abs, start)))
    return Surface(f, (-far, far, -far, far))


def point(x: float, y: float) -> Tensor:
    """Return (x, y) in float64."""
    return torch.tensor([x, y], dtype=torch.float64)


def gradient_of(f: Function) -> Gradient:
    """Return the function that finds the gradient of `f` by autograd, at one point or at many."""

    def gradient(p: Tensor) -> Tensor:
        leaf = p.detach().requires_grad_()
        (slope,) = torch.autograd.grad(f(leaf).sum(), leaf)
        return slope

    return gradient


def hessian(f: Function, p: Tensor) -> Tensor:
    """Return the second derivatives of `f` at `p`, (2, 2)."""
    curvature = torch.autograd.functional.hessian(f, p)
    assert isinstance(curvature, Tensor)
    return curvature


def walk(path: Path, start: Tensor, steps: int) -> Tensor:
    """Return the start and the next `steps` points of a rule, stacked."""
    return torch.stack([start, *islice(path, steps)])


def end(path: Path, steps: int) -> Tensor:
    """Return the point after `steps`, keeping none of those before."""
    return next(islice(path, steps - 1, steps))
