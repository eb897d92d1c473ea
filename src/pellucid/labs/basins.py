"""Basins: where each start ends on a surface with four minima of the same height."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor

from pellucid.labs import rules
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_most, equals, is_true
from pellucid.labs.rules import Gradient, Path
from pellucid.labs.stability import MINIMA, polished
from pellucid.labs.surfaces import end, gradient_of, hessian, himmelblau, point, walk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 8.5
STARTS = ((4.0, 3.0), (-4.0, 5.0), (-7.0, -8.0))
PLACES = ("(3, 2)", "(-2.805, 3.131)", "(-3.779, -3.283)", "(3.584, -1.848)")
OTHERS = ("undecided", "diverged")
Coordinate = Annotated[float, ranged("x or y", -10, 10)]


@lab
def run(
    *,
    optimizer: Annotated[
        Literal["descent", "momentum", "adam"], about("rule that walks; momentum is 0.9")
    ] = "descent",
    lr: Annotated[float, ranged("learning rate", 1e-4, 0.5)] = 0.01,
    steps: Annotated[int, ranged("from each start", 10, 3000)] = 300,
    grid: Annotated[int, ranged("starts along each side of the map", 11, 241)] = 81,
    start: Annotated[tuple[Coordinate, Coordinate], about("of one more path")] = (0.0, 0.0),
) -> LabResult:
    """Start from every place of a grid, and colour it by the minimum where the walk ends."""
    gradient = gradient_of(himmelblau)
    ticks = torch.linspace(-SIDE, SIDE, grid, dtype=torch.float64)
    starts = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), 2).view(-1, 2)
    ended = basin(end(path_of(optimizer, gradient, starts, lr), steps))
    share = [float((ended == i).double().mean()) for i in range(6)]
    paths = {
        p: walk(path_of(optimizer, gradient, point(*p), lr), point(*p), steps)
        for p in (start, *STARTS)
    }
    far = (point(*start) - _minima()).norm(dim=1)
    mine = int(basin(paths[start][-1:])[0])
    text = f"""
        Himmelblau's function (x^2 + y - 11)^2 + (x + y^2 - 7)^2 has four minima, all of height 0:
        none is better than another, so where a walk ends is decided by where it begins, by the
        rule and by its learning rate. Each of the {grid * grid:,} places of the map is the start of
        a walk of {steps} steps with {optimizer} and lr = {lr:g}.

        From ({start[0]:g}, {start[1]:g}) it ends: {(*PLACES, *OTHERS)[mine]}. The nearest minimum
        is {PLACES[int(far.argmin())]}, at a distance of {float(far.min()):.3g}; descent follows the
        slope, and need not end at the nearest. Between the minima lie four saddles and one
        maximum, where the gradient is 0 as well; the edges of the basins run through the saddles.
    """
    rows = [(f"({p[0]:g}, {p[1]:g})", (*PLACES, *OTHERS)[int(basin(path[-1:])[0])],
             float(himmelblau(path[-1]))) for p, path in paths.items()]  # fmt: skip
    shares = list(zip((*PLACES, *OTHERS), share, strict=True))
    claims = [
        equals("The shares of the map sum to 1", sum(share), 1, 1e-12),
        *_critical(),
        *_known(),
    ]
    return LabResult(
        text, claims, partial(_draw, f"{optimizer}, lr = {lr:g}", ended.view(grid, grid), paths),
        [Table(("start", "ends", "f there"), rows), Table(("ends", "share of the map"), shares)],
        {"share": dict(shares)},
    )  # fmt: skip


def path_of(optimizer: str, gradient: Gradient, start: Tensor, lr: float) -> Path:
    """Return the walk of a rule from `start`, a point or many."""
    if optimizer == "adam":
        return rules.adam(gradient, start, lr=lr)
    return rules.sgd(gradient, start, lr=lr, momentum=0.9 if optimizer == "momentum" else 0.0)


def basin(points: Tensor) -> Tensor:
    """Return the number of the minimum at each of `points` (N, 2); 4 undecided, 5 diverged."""
    apart = (points[:, None] - _minima()).norm(dim=2)
    near = apart.min(dim=1)
    found = torch.where(near.values < 0.1, near.indices, 4)
    return torch.where(points.isfinite().all(1), found, 5)


def _minima() -> Tensor:
    return torch.tensor(MINIMA["himmelblau"][1], dtype=torch.float64)


def _critical() -> list[Claim]:
    """Find all places without a slope by Newton's method, from a coarse grid of starts."""
    f = himmelblau
    found: list[Tensor] = []
    for x in range(-4, 5):
        for y in range(-4, 5):
            p = polished(f, point(x + 0.1, y - 0.1))
            near = any(float((p - other).norm()) < 1e-3 for other in found)
            if float(gradient_of(f)(p).norm()) < 1e-8 and not near:
                found.append(p)
    signs = [int((torch.linalg.eigvalsh(hessian(f, p)) > 0).sum()) for p in found]
    highest = found[signs.index(0)] if 0 in signs else point(0, 0)
    lows = [p for p, sign in zip(found, signs, strict=True) if sign == 2]
    return [
        equals("It has four minima", signs.count(2), 4, 0, "T6.2"),
        equals("four saddles", signs.count(1), 4, 0),
        equals("and one maximum", signs.count(0), 1, 0),
        equals("of height 181.6165", f(highest), 181.6165, 5e-5),
        equals("at x = -0.27084", float(highest[0]), -0.27084, 5e-6),
        equals("and y = -0.92304", float(highest[1]), -0.92304, 5e-6),
        at_most("All minima are equally deep: 0", max(float(f(p)) for p in lows), 1e-20, "T6.2"),
    ]


def _known() -> list[Claim]:
    """Return where known starts end, whatever the options."""
    gradient = gradient_of(himmelblau)

    def ends(x: float, y: float, lr: float, steps: int) -> Tensor:
        return end(rules.sgd(gradient, point(x, y), lr=lr), steps)

    def at(x: float, y: float, lr: float, steps: int) -> int:
        return int(basin(ends(x, y, lr, steps)[None])[0])

    claims = [is_true("From (0, 0) with lr 0.01 it ends at (3, 2)", at(0, 0, 0.01, 500) == 0)]
    for (x, y), goal in zip(STARTS, (0, 1, 1), strict=True):
        claims += [
            is_true(f"From ({x:g}, {y:g}) with lr 0.01, 100 steps, at {PLACES[goal]}",
                    at(x, y, 0.01, 100) == goal),
            is_true(f"From ({x:g}, {y:g}) lr 0.1 overflows within 7 steps",
                    not bool(ends(x, y, 0.1, 7).isfinite().all())
                    or float(himmelblau(ends(x, y, 0.1, 7))) == float("inf"), "T6.22"),
        ]  # fmt: skip
    apart = (ends(-0.3, -0.8, 0.001, 2500) - point(-0.3, -0.8)).norm()
    nearest = (_minima() - point(-0.3, -0.8)).norm(dim=1).min()
    return [
        *claims,
        equals("From (-0.3, -0.8) with lr 0.001 it ends 4.66 away", float(apart), 4.66, 0.005,
               "T6.23"),
        equals("though a minimum is as near as 4.02", float(nearest), 4.02, 0.005, "T6.23"),
    ]  # fmt: skip


def _draw(how: str, ended: Tensor, paths: dict[tuple[float, float], Tensor]) -> Figure:
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from pellucid.labs.drawing import finish, key_below, landscape

    colours = ("#a6cee3", "#b2df8a", "#fdbf6f", "#cab2d6", "#999999", "#444444")
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    figure.suptitle(f"Himmelblau's function: where each start ends ({how})", fontweight="bold")
    plan, relief = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2, projection="3d")
    plan.imshow(ended.numpy(), origin="lower", extent=(-SIDE, SIDE, -SIDE, SIDE), vmin=0, vmax=5,
                cmap=ListedColormap(colours), interpolation="nearest")  # fmt: skip
    landscape(plan, himmelblau, (-SIDE, SIDE, -SIDE, SIDE))
    ticks = torch.linspace(-5, 5, 60, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), 2)
    relief.plot_surface(
        grid[..., 0].numpy(), grid[..., 1].numpy(), himmelblau(grid).numpy(), cmap="viridis",
        alpha=0.6, linewidth=0,
    )  # fmt: skip
    for (x, y), path in paths.items():
        inside = path[(path.abs() <= SIDE).all(1)]
        plan.plot(*inside.T, color="black", linewidth=1, marker=".", markersize=3)
        low = path[(path.abs() <= 5).all(1)]
        relief.plot(low[:, 0].numpy(), low[:, 1].numpy(), himmelblau(low).numpy(), color="black",
                    zorder=5)  # fmt: skip
        if max(abs(x), abs(y)) <= SIDE:
            plan.annotate(
                f"({x:g}, {y:g})", (x, y), (7, 5), textcoords="offset points", fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
            )  # fmt: skip
    names = [Patch(color=c, label=n) for c, n in zip(colours, (*PLACES, *OTHERS), strict=True)]
    finish(plan, "map of the basins, with paths", "x", "y")
    key_below(plan, 3, names)
    relief.set(title="the surface", xlabel="x", ylabel="y", zlabel="f")
    return figure
