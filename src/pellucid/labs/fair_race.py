"""A fair race: seven optimizers on one surface, each with the same budget of rates and starts.

A picture of one path with one rate shows nothing about an optimizer. Here each gets the same rates
to try, from the same starts, and the whole sweep is reported: best, middle, and how many rates do.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor

from pellucid.errors import UserError
from pellucid.labs.optimizers import seven
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_least, at_most, equals, is_true
from pellucid.labs.surfaces import Function, chosen, gradient_of
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST, HIGHEST = -5.0, 0.5
"""Powers of ten between which the rates of a sweep lie."""
GOOD = 0.01
"""A rate is good if the median walk keeps no more than this share of its first height."""


@lab
def run(
    *,
    surface: Annotated[
        Literal["rosenbrock", "himmelblau", "quadratic"], about("whose lowest height is 0")
    ] = "rosenbrock",
    formula: Annotated[str, about("a surface of your own, of x and y, that is never below 0")] = "",
    steps: Annotated[int, ranged("of each walk", 20, 1000)] = 300,
    rates: Annotated[int, ranged("tried by each, from 1e-5 to 3", 4, 40)] = 12,
    starts: Annotated[int, ranged("drawn at random, the same for all", 5, 100)] = 20,
    seed: Annotated[int, ranged("of the starts", 0, 10**6)] = 0,
) -> LabResult:
    """Race seven optimizers, each at its own rate."""
    f = chosen(surface, formula, (1.0, 1.0)).f
    begin = 4 * torch.rand(starts, 2, generator=generator(seed, "lab"), dtype=torch.float64) - 2
    tried = torch.logspace(LOWEST, HIGHEST, rates, dtype=torch.float64)
    left = race(f, begin, tried, steps)
    if any(float(values.min()) < 0 for values in left.values()):
        raise UserError(
            "The race measures heights from 0, and this surface goes below. Add a constant to "
            f"--formula: ({formula}) + 100."
        )
    found = {name: Summary(values) for name, values in left.items()}
    common = int((tried.log10() + 2).abs().argmin())  # nearest to 0.01
    by_best = sorted(found, key=lambda name: found[name].best)
    at_one = sorted(left, key=lambda name: float(left[name][common].median()))
    text = f"""
        The surface is {formula or surface}. The budget, the same for each of seven: {rates} rates
        from 1e-5 to 3, {starts} starts in the square from -2 to 2, {steps} steps, that is
        {rates * starts * steps:,} gradients. What counts is the height that is left, as a share
        of the first height: 1 is no gain, 0 is the bottom.

        At one rate for all, {float(tried[common]):.3g}, the order is: {", ".join(at_one)}. Each
        at the best of its rates: {", ".join(by_best)}. The first order says which of them likes
        that rate; the second holds for this surface and this budget, and nothing else.

        The width says how many rates do: those that leave the median walk at most {GOOD:.0%} of its
        height. One number never says it all: an optimizer may be best at its best rate, and
        worst at most others.
    """
    rows = [
        (name, float(tried[found[name].place]), found[name].best, found[name].middle,
         f"{found[name].good} of {rates}", float(left[name][common].median()))
        for name in by_best
    ]  # fmt: skip
    head = ("optimizer", "best rate", "left there", "middle rate", "good rates",
            f"rate {float(tried[common]):.2g}")  # fmt: skip
    claims = [*_same(f, begin, tried, steps, left), *_known(found), *_quadratic()]
    return LabResult(
        text, claims, partial(_draw, formula or surface, tried, left), [Table(head, rows)],
        {"best_rate": {name: float(tried[s.place]) for name, s in found.items()},
         "left": {name: s.best for name, s in found.items()}},
    )  # fmt: skip


class Summary:
    """What a sweep found.

    Args:
        left: share of the height that is left, (rates, starts).
    """

    def __init__(self, left: Tensor) -> None:
        medians = left.median(1).values
        self.place = int(medians.argmin())
        self.best = float(medians[self.place])
        self.middle = float(medians.median())
        self.good = int((medians <= GOOD).sum())


def race(f: Function, begin: Tensor, rates: Tensor, steps: int) -> dict[str, Tensor]:
    """Return for each optimizer the share of the height that is left, (rates, starts).

    Walks that diverge, or end higher than they began, count as 1: nothing gained.
    """
    lr = rates[:, None, None]
    wide = begin.expand(len(rates), *begin.shape)
    first = f(begin).clamp(min=1e-300)
    left = {}
    for name, path in seven(gradient_of(f), wide, lr, lr, 0.9).items():  # type: ignore[arg-type]
        *_, last = islice(path, steps)
        left[name] = (f(last) / first).nan_to_num(1.0, 1.0, 1.0).clamp(max=1.0)
    return left


def _same(
    f: Function, begin: Tensor, rates: Tensor, steps: int, left: dict[str, Tensor]
) -> list[Claim]:
    tiny = race(f, begin, torch.tensor([1e-12], dtype=torch.float64), 1)
    alone = race(f, begin[:1], rates[:1], steps)
    return [
        at_most("All begin at the same places: heights after a step of no length differ by",
                max(float((v - 1).abs().max()) for v in tiny.values()), 1e-6, "T6.20"),
        equals("Each has the same number of walks",
               len({tuple(v.shape) for v in left.values()}), 1, 0, "T6.20"),
        at_most("A walk is the same alone as among all: largest difference",
                max(abs(float(alone[n][0, 0] - left[n][0, 0])) for n in left), 1e-9),
    ]  # fmt: skip


def _known(found: dict[str, Summary]) -> list[Claim]:
    return [
        is_true("No best rate leaves more than the middle rate does",
                all(s.best <= s.middle for s in found.values()), "T6.3"),
    ]  # fmt: skip


def _quadratic() -> list[Claim]:
    """Return what must come out on x^2 + y^2, whose best rate is known."""
    draws = generator(0, "lab")
    begin = 4 * torch.rand(20, 2, generator=draws, dtype=torch.float64) - 2
    rates = torch.tensor([0.001, 0.01, 0.1, 0.5, 1.0, 1.01], dtype=torch.float64)
    left = race(lambda p: p.square().sum(-1), begin, rates, 10)
    plain = left["gradient descent"].median(1).values
    by_one = min(left, key=lambda name: float(left[name][0].median()))
    return [
        equals("On x^2 + y^2 descent at 0.5 lands in one step: left", plain[3], 0, 1e-20),
        equals("at 0.1, ten steps: 0.8^20", plain[2], 0.8**20, 1e-9),
        equals("at 1 it jumps to and fro: left", plain[4], 1, 1e-9, "T6.15"),
        is_true("At its own best rate nobody is ahead of descent there", float(plain.min()) == min(
            float(v.median(1).values.min()) for v in left.values()), "T6.3"),
        is_true("though at the rate 0.001 somebody is", by_one != "gradient descent", "T6.3"),
        at_least("so one rate for all shows the rate: descent leaves there", plain[0], 0.9, "T6.3"),
    ]  # fmt: skip


def _draw(name: str, tried: Tensor, left: dict[str, Tensor]) -> Figure:
    from pellucid.labs.drawing import COLOURS, finish, sheet

    figure, (sweep, band) = sheet(f"A fair race on {name}: the same rates and starts for all", 2,
                                  size=(12.5, 5))  # fmt: skip
    marks = "os^vDxP"
    floor = 1e-12
    for place, ((rule, values), colour, mark) in enumerate(
        zip(left.items(), COLOURS, marks, strict=True)
    ):
        medians = values.median(1).values.clamp(min=floor)
        sweep.plot(tried, medians, color=colour, marker=mark, markersize=4, label=rule)
        best = values[int(medians.argmin())].clamp(min=floor).sort().values
        low, high = best[len(best) // 4], best[math.ceil(0.75 * (len(best) - 1))]
        band.plot([low, high], [place, place], color=colour, linewidth=4)
        band.plot(best.median(), place, mark, color=colour, markersize=9)
    for axis in (sweep, band):
        axis.set_xscale("log")
    sweep.set_yscale("log")
    band.set_yticks(range(len(left)), list(left))
    band.invert_yaxis()
    finish(sweep, "median over the starts, by rate", "lr", "share of the height left")
    finish(band, "each at its best rate: median and middle half", "share of the height left")
    return figure
