"""Which minima a learning rate can hold: heights are equal, curvature is not.

Near a minimum a smooth function is a parabola in each direction of its Hessian, and descent
multiplies the distance by 1 - lr * lambda: it shrinks only while lr is below 2 / lambda.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor

from pellucid.labs import rules
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_most, equals, is_true
from pellucid.labs.surfaces import (
    Function,
    end,
    gradient_of,
    hessian,
    himmelblau,
    point,
    quadratic,
    rosenbrock,
    walk,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MINIMA: dict[str, tuple[Function, tuple[tuple[float, float], ...]]] = {
    "himmelblau": (himmelblau, ((3, 2), (-2.80512, 3.13131), (-3.77931, -3.28319),
                                (3.58443, -1.84813))),
    "rosenbrock": (rosenbrock, ((1, 1),)),
    "quadratic": (quadratic, ((0, 0),)),
}  # fmt: skip
KNOWN = (0.02431, 0.02483, 0.01495, 0.01897)
"""Limits of Himmelblau's minima without momentum."""


@lab
def run(
    *,
    surface: Annotated[
        Literal["himmelblau", "rosenbrock", "quadratic"], about("with one minimum or several")
    ] = "himmelblau",
    lr: Annotated[float, ranged("learning rate to try", 1e-4, 0.5)] = 0.0155,
    momentum: Annotated[float, ranged("0: plain gradient descent", 0, 0.95)] = 0.0,
    nesterov: Annotated[bool, about("Nesterov's momentum rather than the heavy ball")] = False,
    steps: Annotated[int, ranged("to walk from beside each minimum", 100, 5000)] = 2000,
) -> LabResult:
    """Find the limit of the learning rate at each minimum, and walk to see whether it is one."""
    f, roughly = MINIMA[surface]
    places = [polished(f, point(*p)) for p in roughly]
    ended = _beside(f, torch.stack(places), lr, momentum, nesterov, steps)
    rows = []
    for place, last in zip(places, ended, strict=True):
        small, large = torch.linalg.eigvalsh(hessian(f, place)).tolist()
        most = limit(large, momentum, nesterov)
        rows.append((_named(place), small, large, most, "yes" if lr < most else "no",
                     "stays" if _stays(last, place) else "leaves"))  # fmt: skip
    rule = "2 (1 + mu) / ((1 + 2 mu) lambda)" if nesterov else "2 (1 + mu) / lambda"
    text = f"""
        At a minimum the gradient is 0 and the Hessian says how the surface bends. In the direction
        of its largest eigenvalue lambda, descent makes of a distance e:

            e <- e - lr * lambda * e = (1 - lr * lambda) e

        It shrinks while lr < 2 / lambda. With momentum mu the limit is {rule}, here with
        mu = {momentum:g}. A learning rate above it cannot stay, however near the walk begins.

        On {surface} with lr = {lr:g}, {sum(row[4] == "yes" for row in rows)} of {len(rows)} minima
        can be held. {_lesson(surface)}
    """
    claims = [*_here(f, places, momentum, nesterov), *_himmelblau(), *_two_cycle(), *_ravine()]
    head = ("minimum", "smallest lambda", "largest lambda", "limit of lr", "lr below it", "walk")
    return LabResult(
        text, claims, partial(_draw, surface, places, lr, momentum, nesterov), [Table(head, rows)],
        {"limits": [row[3] for row in rows]},
    )  # fmt: skip


def limit(curvature: float, momentum: float = 0.0, nesterov: bool = False) -> float:
    """Return the learning rate above which descent leaves a minimum of this largest curvature."""
    return 2 * (1 + momentum) / ((1 + 2 * momentum * nesterov) * curvature)


def polished(f: Function, p: Tensor) -> Tensor:
    """Return the minimum near `p`, by Newton's method."""
    for _ in range(20):
        p = p - torch.linalg.solve(hessian(f, p), gradient_of(f)(p))
    return p


def _named(p: Tensor) -> str:
    return f"({float(p[0]):.4g}, {float(p[1]):.4g})"


def _stays(last: Tensor, place: Tensor) -> bool:
    return bool(last.isfinite().all()) and float((last - place).norm()) < 0.01


def _beside(
    f: Function, places: Tensor, lr: float, momentum: float, nesterov: bool, steps: int
) -> Tensor:
    """Return where walks end that begin a thousandth beside minima (N, 2)."""
    begin = places + point(1e-3, 0)
    path = rules.sgd(gradient_of(f), begin, lr=lr, momentum=momentum, nesterov=nesterov)
    return end(path, steps)


def _lesson(surface: str) -> str:
    if surface == "himmelblau":
        return (
            "All four minima are equally deep, but one is sharper than the others: a large "
            "learning rate passes over it, not because it is bad, but because it bends."
        )
    return (
        "The ratio of largest to smallest eigenvalue is the condition number: the rate must suit "
        "the steepest direction, and the flattest then waits for that many steps."
    )


def _here(f: Function, places: list[Tensor], momentum: float, nesterov: bool) -> list[Claim]:
    """Return whether the limit is one: on the parabola that the surface is near each minimum."""
    claims = []
    for place in places:
        bend = hessian(f, place)
        most = limit(float(torch.linalg.eigvalsh(bend)[-1]), momentum, nesterov)
        begin = torch.linalg.eigh(bend).eigenvectors[:, -1] * 1e-3

        def far(rate: float, bend: Tensor = bend, begin: Tensor = begin) -> float:
            path = rules.sgd(lambda p: bend @ p, begin, lr=rate, momentum=momentum,
                             nesterov=nesterov)  # fmt: skip
            return float(end(path, 2000).norm()) / 1e-3

        claims += [
            at_most(f"{_named(place)}: at 0.99 of the limit the distance shrinks", far(0.99 * most),
                    1e-3, "T6.11"),
            is_true(f"{_named(place)}: at 1.01 of the limit it grows", far(1.01 * most) > 1e3,
                    "T6.11"),
        ]  # fmt: skip
    return claims


def _himmelblau() -> list[Claim]:
    f, roughly = MINIMA["himmelblau"]
    claims = []
    for p, known in zip(roughly, KNOWN, strict=True):
        place = polished(f, point(*p))
        found = limit(float(torch.linalg.eigvalsh(hessian(f, place))[-1]))
        claims += [
            at_most(f"Himmelblau is 0 at {_named(place)}", float(f(place)), 1e-20, "T6.2"),
            equals(f"and its limit there is {known}", found, known, 5e-6, "T6.2"),
        ]
    return claims


def _two_cycle() -> list[Claim]:
    """Return what happens just above the limit of the sharpest minimum."""
    f, roughly = MINIMA["himmelblau"]
    sharp, first = polished(f, point(*roughly[2])), point(3, 2)
    path = rules.sgd(gradient_of(f), sharp + point(1e-3, 0), lr=0.0155)
    last = walk(path, sharp, 1000)[-2:]
    a, b = last[last[:, 0].argsort(descending=True)]
    claims = [
        equals(f"lr 0.0155 leaves it for a cycle of two points: {name}", float(value), known, 1e-3)
        for name, value, known in (
            ("x of one", a[0], -3.3620), ("y of one", a[1], -3.4651),
            ("x of the other", b[0], -4.0721), ("y of the other", b[1], -3.0137),
        )
    ]  # fmt: skip
    stays = _stays(_beside(f, first, 0.0155, 0.0, False, 1000), first)
    return [*claims, is_true("and the same rate stays at (3, 2)", stays, "T6.11")]


def _ravine() -> list[Claim]:
    small, large = torch.linalg.eigvalsh(hessian(rosenbrock, point(1, 1))).tolist()
    return [
        equals("Rosenbrock at (1, 1): the smallest eigenvalue", small, 0.3994, 5e-5),
        equals("Rosenbrock at (1, 1): the largest", large, 1001.6, 0.05),
        equals("and so its limit", limit(large), 0.001997, 5e-7),
        equals("and its condition number", large / small, 2508, 0.5),
    ]


def _draw(surface: str, places: list[Tensor], lr: float, momentum: float, nesterov: bool) -> Figure:
    from pellucid.labs.drawing import COLOURS, finish, sheet

    f, _ = MINIMA[surface]
    figure, (cuts, walks) = sheet(f"{surface}: equal heights, different curvature", 2,
                                  size=(11, 4.8))  # fmt: skip
    way = torch.linspace(-1, 1, 200, dtype=torch.float64)
    for place, colour in zip(places, COLOURS, strict=False):
        values, vectors = torch.linalg.eigh(hessian(f, place))
        steep = vectors[:, -1]
        most = limit(float(values[-1]), momentum, nesterov)
        cuts.plot(way, f(place + way[:, None] * steep), color=colour,
                  label=f"{_named(place)}: lambda = {float(values[-1]):.4g}")  # fmt: skip
        path = rules.sgd(gradient_of(f), place + 1e-3 * steep, lr=lr, momentum=momentum,
                         nesterov=nesterov)  # fmt: skip
        far = (walk(path, place + 1e-3 * steep, 300) - place).norm(dim=1)
        walks.plot(range(301), far.clamp(1e-16, 1e3), color=colour,
                   label=f"{_named(place)}: limit {most:.4g}")  # fmt: skip
    finish(cuts, "cut through each minimum, steepest direction", "way from the minimum", "f", True)
    walks.set_yscale("log")
    finish(walks, f"distance from each minimum, lr = {lr:g}", "steps", "distance", True)
    return figure
