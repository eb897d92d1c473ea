"""Optimizers from scratch: what each does with a gradient, and that it is what PyTorch does.

The rules themselves stand in `rules.py`, ten lines each. There is no sampling here, so what is
called SGD in PyTorch is plain gradient descent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from torch import Tensor

from pellucid.labs import rules
from pellucid.labs.beside_torch import Rule, as_torch, begin_all, slopes
from pellucid.labs.formula import parse
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, equals
from pellucid.labs.rules import Gradient, Path
from pellucid.labs.surfaces import (
    FORMULAS,
    SURFACES,
    Surface,
    chosen,
    gradient_of,
    point,
    rosenbrock,
    walk,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@lab
def run(
    *,
    surface: Annotated[
        Literal["rosenbrock", "himmelblau", "quadratic", "saddle"], about("to walk on")
    ] = "rosenbrock",
    formula: Annotated[str, about("a surface of your own, of x and y: x^2 + 3*sin(y)")] = "",
    start: Annotated[
        tuple[Annotated[float, ranged("x", -10, 10)], Annotated[float, ranged("y", -10, 10)]],
        about("x and y of the first point"),
    ] = (-1.0, -1.0),
    steps: Annotated[int, ranged("of each", 1, 2000)] = 500,
    lr: Annotated[float, ranged("of gradient descent, momentum and Nesterov", 1e-6, 1)] = 2e-4,
    adaptive_lr: Annotated[float, ranged("of the others: their step is about this long",
                                         1e-5, 5)] = 0.05,
    momentum: Annotated[float, ranged("of those that have one", 0.01, 0.99)] = 0.9,
    trace: Annotated[
        Literal["gradient descent", "momentum", "Nesterov", "Adagrad", "RMSprop", "Adam", "AdamW"],
        about("the rule whose steps are listed"),
    ] = "gradient descent",
    azimuth: Annotated[float, ranged("turns the surface, in degrees", -180, 180)] = -60,
    elevation: Annotated[float, ranged("tilts the surface, in degrees", 0, 90)] = 35,
) -> LabResult:  # fmt: skip
    """Walk down a surface with seven rules, and compare all with torch.optim in every option."""
    ground = chosen(surface, formula, start)
    f, begin = ground.f, point(*start)
    gradient = gradient_of(f)
    paths = {
        name: walk(path, begin, steps)
        for name, path in seven(gradient, begin, lr, adaptive_lr, momentum).items()
    }
    slope = gradient(begin)
    name = formula or f"{surface}, {FORMULAS[surface]}"
    text = f"""
        The surface is {name}. At ({start[0]:g}, {start[1]:g}) its height is
        f = {float(f(begin)):.6g}, and its gradient ({float(slope[0]):.5g}, {float(slope[1]):.5g})
        has the length {float(slope.norm()):.5g}. Each rule makes a step out of gradients g:

            gradient descent  w <- w - lr g
            momentum          v <- mu v + g              w <- w - lr v
            Nesterov          v <- mu v + g              w <- w - lr (g + mu v)
            Adagrad           s <- s + g^2               w <- w - lr g / (sqrt(s) + eps)
            RMSprop           s <- a s + (1 - a) g^2     w <- w - lr g / (sqrt(s) + eps)
            Adam              m, s: running means of g and g^2, both corrected for their start
                              w <- w - lr m / (sqrt(s) + eps)
            AdamW             Adam, and w <- w - lr * weight_decay * w beside it

        Their steps are in different units. The first three move by lr times the gradient, the
        others by about lr whatever its length: so they get a rate of their own here, lr = {lr:g}
        and {adaptive_lr:g}, and the picture is no race. RMSprop does not correct its mean, so its
        first step is 1 / sqrt(1 - 0.99) = 10 times lr in each direction. PyTorch's v is not
        damped: with one steady gradient the step grows to lr / (1 - mu) times it.

        A point and its loss belong together: the loss printed after a step must be that of the
        point after the step, not of the one before.
    """
    rows = [_row(name, path, f) for name, path in paths.items()]
    head = ("rule", "first step / lr", f"x, y after {steps}", "f there", "length of gradient")
    claims = [*as_torch(), *_formula(), *_first_steps(), *_fixed(), *_decay()]
    rates = {name: lr if i < 3 else adaptive_lr for i, name in enumerate(paths)}
    rows = [(n, first / rates[n], *rest) for n, first, *rest in rows]
    return LabResult(
        text, claims, partial(_draw, formula or surface, ground, paths, (elevation, azimuth)),
        [Table(head, rows), _listed(trace, paths[trace], f)],
        {name: path[-1].tolist() for name, path in paths.items() if path[-1].isfinite().all()},
    )  # fmt: skip


def seven(
    gradient: Gradient, begin: Tensor, lr: float, adaptive_lr: float, momentum: float
) -> dict[str, Path]:
    """Return the seven rules, each ready to walk from `begin`."""
    return {
        "gradient descent": rules.sgd(gradient, begin, lr=lr),
        "momentum": rules.sgd(gradient, begin, lr=lr, momentum=momentum),
        "Nesterov": rules.sgd(gradient, begin, lr=lr, momentum=momentum, nesterov=True),
        "Adagrad": rules.adagrad(gradient, begin, lr=adaptive_lr),
        "RMSprop": rules.rmsprop(gradient, begin, lr=adaptive_lr),
        "Adam": rules.adam(gradient, begin, lr=adaptive_lr),
        "AdamW": rules.adamw(gradient, begin, lr=adaptive_lr),
    }


def _row(name: str, path: Tensor, f: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    last = path[-1]
    place = f"{float(last[0]):.4f}, {float(last[1]):.4f}"
    first = float((path[1] - path[0]).norm())
    return name, first, place, float(f(last)), float(gradient_of(f)(last).norm())


def _listed(name: str, path: Tensor, f: Callable[[Tensor], Tensor]) -> Table:
    """Return the first steps of a path and some later ones: place, height, slope, length."""
    steps = len(path) - 1
    listed = [0, *(k for k in (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000) if k < steps), steps]
    slopes, heights = gradient_of(f)(path), f(path)
    rows = [
        (k, float(path[k, 0]), float(path[k, 1]), float(heights[k]), float(slopes[k].norm()),
         float((path[k] - path[k - 1]).norm()) if k else "")
        for k in listed
    ]  # fmt: skip
    head = ("step", "x", "y", "f there", "length of gradient", "length of step")
    return Table(head, rows, f"The steps of {name}")


def _formula() -> list[Claim]:
    """Return whether formulas that are read are the functions that are written in Python."""
    side = torch.linspace(-3, 3, 25, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), 2)
    read = [parse(text) for text in FORMULAS.values()]
    ours = torch.stack([f(grid) for f in read])
    by_slope = torch.stack([gradient_of(f)(row) for f, row in zip(read, begin_all(), strict=True)])
    return [
        agrees("A formula that is read gives the heights of the four surfaces", ours,
               torch.stack([s.f(grid) for s in SURFACES.values()]), 1e-9),
        agrees("and their slopes", by_slope, slopes(begin_all()), 1e-9),
        equals("A power binds before a minus: -x^2 at 3", parse("-x^2")(point(3, 0)), -9, 0),
    ]  # fmt: skip


def _first_steps() -> list[Claim]:
    """Return the lengths of the first steps over lr, at a place of Rosenbrock's valley."""
    begin = point(-1.2, 1)
    gradient = gradient_of(rosenbrock)
    length = float(gradient(begin).norm())
    first = {
        name: (begin - next(path)) / 1e-3
        for name, path in seven(gradient, begin, 1e-3, 1e-3, 0.9).items()
    }
    claims = [equals(f"{n}: the first step is lr times |g|", float(first[n].norm()), length, 1e-9)
              for n in ("gradient descent", "momentum")]  # fmt: skip
    claims.append(equals("Nesterov: the first step is lr times (1 + mu) |g|",
                         float(first["Nesterov"].norm()), 1.9 * length, 1e-9, "T6.6"))  # fmt: skip
    for name, size in (("Adagrad", 1), ("Adam", 1), ("RMSprop", 10)):
        smallest, largest = first[name].abs().sort().values.tolist()
        trap = "T6.7" if name == "RMSprop" else ""
        claims += [
            equals(f"{name}: the first step is {size} lr in x or y", smallest, size, 1e-4, trap),
            equals(f"{name}: and as long in the other", largest, size, 1e-4, trap),
        ]
    return claims


def _fixed() -> list[Claim]:
    """Return figures that are known, whatever the options."""
    gradient = gradient_of(rosenbrock)
    g = gradient(point(-1.2, 1))
    begin = point(-1, -1)
    plain = walk(rules.sgd(gradient, begin, lr=1e-3), begin, 5)[-1]
    heavy = walk(rules.sgd(gradient, begin, lr=1e-3, momentum=0.9), begin, 5)[-1]
    steady = walk(rules.sgd(torch.ones_like, begin, lr=1e-3, momentum=0.9), begin, 300)
    shrinking = walk(rules.adagrad(torch.ones_like, begin, lr=1.0), begin, 400)
    one = walk(rules.sgd(gradient_of(lambda w: w**2), torch.tensor(2.0).double(), lr=0.1),
               torch.tensor(2.0).double(), 1)  # fmt: skip
    return [
        equals("Rosenbrock at (-1.2, 1) is 24.2", rosenbrock(point(-1.2, 1)), 24.2, 1e-9),
        equals("its slope by x there is -215.6", float(g[0]), -215.6, 1e-9),
        equals("its slope by y there is -88", float(g[1]), -88, 1e-9),
        equals("Rosenbrock at (-1, -1) is 404", rosenbrock(begin), 404, 1e-9),
        equals("Descent, 5 steps from there: x", float(plain[0]), -0.0797, 5e-5),
        equals("Descent, 5 steps from there: y", float(plain[1]), -0.2354, 5e-5),
        equals("Descent: the loss of that point", rosenbrock(plain), 7.0105, 5e-5, "T6.21"),
        equals("Momentum 0.9, 5 steps from there: x", float(heavy[0]), 1.0812, 5e-5),
        equals("Momentum 0.9, 5 steps from there: y", float(heavy[1]), 1.7860, 5e-5),
        equals("Momentum: the loss of that point", rosenbrock(heavy), 38.0609, 5e-4, "T6.21"),
        equals("By hand: 2, gradient 4, lr 0.1 -> 1.6", float(one[1]), 1.6, 1e-12),
        equals("Momentum's step under a steady gradient, over lr",
               float((steady[-2] - steady[-1])[0]) / 1e-3, 10, 1e-6, "T6.5"),
        equals("Adagrad's step number 400 is 1 / sqrt(400) of the first",
               float((shrinking[-2] - shrinking[-1])[0]), 1 / 20, 1e-6, "T6.9"),
    ]  # fmt: skip


def _decay() -> list[Claim]:
    """Return what weight decay means, on a weight of 3 whose loss has no slope or one of 100."""
    w = torch.tensor([3.0, 3.0], dtype=torch.float64)
    steep = torch.tensor([0.0, 100.0], dtype=torch.float64)

    def step(rule: Rule, lr: float, decay: float) -> Tensor:
        return (w - next(rule(lambda _: steep, w, lr=lr, weight_decay=decay))) / lr

    by_sgd = step(rules.sgd, 0.1, 0.02) - steep
    penalty = gradient_of(lambda p: 0.01 * p**2)(w)
    adamw = step(rules.adamw, 1e-3, 0.1) - step(rules.adamw, 1e-3, 0.0)
    adam = step(rules.adam, 1e-3, 0.1) - step(rules.adam, 1e-3, 0.0)
    return [
        equals("SGD's weight_decay 0.02 is the penalty 0.01 * sum(w^2)", float(by_sgd[0]),
               float(penalty[0]), 1e-12, "T6.16"),
        equals("AdamW subtracts lr * weight_decay * w", float(adamw[0]), 0.3, 1e-9, "T6.13"),
        equals("AdamW: also where the gradient is steep", float(adamw[1]), 0.3, 1e-9, "T6.4"),
        equals("Adam's L2 is lost there: it is divided with the gradient", float(adam[1]), 0, 1e-6,
               "T6.4"),
    ]  # fmt: skip


def _draw(
    name: str, ground: Surface, paths: dict[str, Tensor], view: tuple[float, float]
) -> Figure:
    from matplotlib.figure import Figure

    from pellucid.labs.drawing import COLOURS, finish, landscape, relief

    f, window = ground
    figure = Figure(figsize=(13, 9), layout="constrained")
    title = f"Seven optimizers on {name}: no race, their rates differ"
    figure.suptitle(title, fontweight="bold")
    plan, curves, lengths = (figure.add_subplot(2, 2, place) for place in (1, 3, 4))
    solid = figure.add_subplot(2, 2, 2, projection="3d")
    landscape(plan, f, window)
    relief(solid, f, window, view)
    for (name, path), colour in zip(paths.items(), COLOURS, strict=True):
        path = path[path.isfinite().all(1)].clamp(-1e6, 1e6)
        plan.plot(*path.clamp(-20, 20).T, color=colour, marker=".", markersize=3, linewidth=1.2,
                  label=name)  # fmt: skip
        x, y = path.T
        inside = (x >= window[0]) & (x <= window[1]) & (y >= window[2]) & (y <= window[3])
        solid.plot(*path[inside].T, f(path[inside]), color=colour, zorder=5)
        curves.plot(range(len(path)), f(path).clamp(-1e6, 1e6), color=colour, label=name)
        steps = path.diff(dim=0).norm(dim=1).clamp(min=1e-12)
        lengths.plot(range(1, len(path)), steps, color=colour, label=name)
    plan.plot(*paths["gradient descent"][0], "k*", markersize=12, label="start")
    plan.set(xlim=window[:2], ylim=window[2:])
    finish(plan, "paths over lines of equal height", "x", "y", legend=True)
    low = min(float(f(path).nan_to_num(0.0).min()) for path in paths.values())
    curves.set_yscale("symlog" if low < 0 else "log")
    lengths.set_yscale("log")
    finish(curves, "height after each step", "steps", "f")
    finish(lengths, "length of each step", "steps", "length")
    return figure
