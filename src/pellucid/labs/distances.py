"""Distances: Euclidean, Manhattan, cosine and others, and which rules of a distance they keep."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.errors import UserError
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_most, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Distance = Callable[[Tensor, Tensor], Tensor]
Vector = tuple[Annotated[float, ranged("coordinate", -1000, 1000)], ...]


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Return the root of the summed squares."""
    return (a - b).square().sum(-1).sqrt()


def manhattan(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of the sizes."""
    return (a - b).abs().sum(-1)


def chebyshev(a: Tensor, b: Tensor) -> Tensor:
    """Return the largest of the sizes."""
    return (a - b).abs().amax(-1)


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Return the summed squares."""
    return (a - b).square().sum(-1)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of the angle between two vectors."""
    return (a * b).sum(-1) / (a.square().sum(-1).sqrt() * b.square().sum(-1).sqrt())


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return one minus the cosine of the angle."""
    return 1 - similarity(a, b)


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle, in radians."""
    return similarity(a, b).clamp(-1, 1).acos()


DISTANCES: dict[str, Distance] = {
    "Euclidean": euclidean, "Manhattan": manhattan, "Chebyshev": chebyshev, "squared": squared,
    "cosine": cosine, "angle": angle,
}  # fmt: skip
ORDERS = {"Euclidean": 2.0, "Manhattan": 1.0, "Chebyshev": float("inf")}
RULES = ("0 to itself", "0 to nothing else", "symmetric", "no shortcut")
BREACHES = dict(
    zip(
        RULES,
        ("not 0 to itself", "0 along a ray", "not symmetric", "takes shortcuts"),
        strict=True,
    )
)


@lab
def run(
    *,
    a: Annotated[Vector, about("a vector, not all 0")] = (0.0, 1.0, 2.0),
    b: Annotated[Vector, about("another, as long")] = (1.0, 1.0, 1.0),
    triples: Annotated[int, ranged("of points on which the rules are tried", 100, 100_000)] = 5000,
    seed: Annotated[int, ranged("of those points", 0, 10**6)] = 0,
) -> LabResult:
    """Measure two vectors in six ways, and try the rules of a distance on many points."""
    if len(a) != len(b) or not any(a) or not any(b):
        raise UserError(
            f"--a and --b must be equally long and not all 0. Got {_named(a)} and {_named(b)}."
        )
    p, q = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    kept = {name: axioms(d, triples, seed) for name, d in DISTANCES.items()}
    rows: list[tuple[Any, ...]] = [
        (name, float(d(p, q)), *("yes" if kept[name][rule] else "no" for rule in RULES))
        for name, d in DISTANCES.items()
    ]
    text = f"""
        Between {_named(a)} and {_named(b)}:

            Euclidean = sqrt(sum (a - b)^2) = {float(euclidean(p, q)):.5g}
            Manhattan = sum |a - b| = {float(manhattan(p, q)):.5g}
            cosine similarity = a b / (|a| |b|) = {float(similarity(p, q)):.5g}
            cosine distance = 1 - similarity = {float(cosine(p, q)):.5g}

        A distance keeps four rules: 0 to itself, above 0 to everything else, the same there and
        back, and no shortcut over a third point: d(a, c) <= d(a, b) + d(b, c). Each was tried on
        {triples:,} triples of points. A single counter-example breaks a rule; that none was found
        is no proof, but for those marked yes there is one.

        The cosine looks at directions only: a vector and its double are 0 apart. It also takes
        shortcuts. At the angles 0, 45 and 90 degrees the direct way is 1, over the middle it is
        {2 * (1 - 0.5**0.5):.4f}. The angle itself keeps that rule among directions.

        The Euclidean length has no slope at 0. PyTorch's own norm returns 0 there, one of the
        possible values; the root of a sum of squares, written out, has no number for a slope.
    """
    claims = [*_known(), *_as_torch(p, q), *_axioms(kept), *_at_zero()]
    return LabResult(
        text, claims, partial(_draw, kept), [Table(("distance", "a to b", *RULES), rows)],
        {name: float(d(p, q)) for name, d in DISTANCES.items()},
    )  # fmt: skip


def axioms(d: Distance, triples: int, seed: int) -> dict[str, bool]:
    """Return which rules hold on random points, and on some that were chosen to break them."""
    draws = generator(seed, "lab")
    x, y, z = torch.randn(3, triples, 2, generator=draws, dtype=torch.float64)
    turn = torch.tensor([0, 45, 90], dtype=torch.float64).deg2rad()
    corners = torch.stack([turn.cos(), turn.sin()], 1)
    x, y, z = (torch.cat([many, one[None]]) for many, one in zip((x, y, z), corners, strict=True))
    y = torch.cat([y, 2 * x[:1]])  # the same direction, twice as far
    x, z = torch.cat([x, x[:1]]), torch.cat([z, z[:1]])
    tiny = 1e-7
    return {
        RULES[0]: bool((d(x, x).abs() < tiny).all()),
        RULES[1]: bool((d(x, y) > tiny).all()),
        RULES[2]: bool(((d(x, y) - d(y, x)).abs() < tiny).all()),
        RULES[3]: bool((d(x, z) <= d(x, y) + d(y, z) + tiny).all()),
    }


def _named(vector: Vector) -> str:
    return f"({', '.join(f'{value:g}' for value in vector)})"


def _known() -> list[Claim]:
    a = torch.tensor([0.0, 1, 2], dtype=torch.float64)
    b = torch.ones(3, dtype=torch.float64)
    zero, half, right = (torch.tensor([t, 1 - t], dtype=torch.float64) for t in (1.0, 0.5, 0.0))
    return [
        equals("(0, 1, 2) and (1, 1, 1): Euclidean 1.4142", euclidean(a, b), 1.4142, 5e-5),
        equals("Manhattan 2", manhattan(a, b), 2, 1e-12),
        equals("cosine distance 0.2254", cosine(a, b), 0.2254, 5e-5),
        equals("Cosine, 0 to 90 degrees: 1", cosine(zero, right), 1, 1e-12, "T5.15"),
        equals("and over 45 degrees 0.5858, a shortcut", cosine(zero, half) + cosine(half, right),
               0.5858, 5e-5, "T5.15"),
    ]  # fmt: skip


def _as_torch(p: Tensor, q: Tensor) -> list[Claim]:
    far = 1e-9 * max(1.0, float(p.abs().max() + q.abs().max()))
    many = torch.randn(2, 40, 3, generator=generator(1, "lab"), dtype=torch.float64)
    pairs = {name: DISTANCES[name](many[0][:, None], many[1][None]) for name in ORDERS}
    claims = [
        agrees(f"{name} on 1,600 pairs is torch.cdist with p = {order:g}", pairs[name],
               torch.cdist(many[0], many[1], p=order), 1e-6)
        for name, order in ORDERS.items()
    ]  # fmt: skip
    return [
        *claims,
        equals("Euclidean is torch.dist with p = 2", euclidean(p, q), torch.dist(p, q), far),
        equals("Manhattan is torch.dist with p = 1", manhattan(p, q), torch.dist(p, q, p=1),
               far),
        equals("Chebyshev is torch.dist with p = inf", chebyshev(p, q),
               torch.dist(p, q, p=float("inf")), far),
        equals("Our cosine is torch's cosine_similarity", similarity(p, q),
               F.cosine_similarity(p[None], q[None])[0], 1e-7),
    ]  # fmt: skip


def _axioms(kept: dict[str, dict[str, bool]]) -> list[Claim]:
    claims = [
        is_true(f"{name} keeps all four rules", all(kept[name].values()))
        for name in ("Euclidean", "Manhattan", "Chebyshev")
    ]
    return [
        *claims,
        is_true("Squared distance takes shortcuts", not kept["squared"]["no shortcut"]),
        is_true("Cosine distance takes shortcuts", not kept["cosine"]["no shortcut"], "T5.15"),
        is_true("It is 0 between a vector and its double", not kept["cosine"]["0 to nothing else"],
                "T5.15"),
        is_true("The angle takes none", kept["angle"]["no shortcut"], "T5.15"),
    ]  # fmt: skip


def _at_zero() -> list[Claim]:
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (own,) = torch.autograd.grad(zero.square().sum().sqrt(), zero)
    (theirs,) = torch.autograd.grad(torch.linalg.vector_norm(zero), zero)
    (guarded,) = torch.autograd.grad((zero.square().sum() + 1e-12).sqrt(), zero)
    return [
        is_true("At 0 the slope of sqrt(sum x^2) is not a number", own.isnan().all(), "T5.16"),
        at_most("that of torch.linalg.vector_norm is 0", theirs.abs().max(), 0, "T5.16"),
        at_most("and so is that of the root with a little added", guarded.abs().max(), 0, "T5.16"),
    ]


def _draw(kept: dict[str, dict[str, bool]]) -> Figure:
    from pellucid.labs.drawing import finish, sheet

    figure, axes = sheet(
        "Distance from (1, 0.5): equal colour, equal distance",
        3,
        2,
        (12, 7.4),
    )
    ticks = torch.linspace(-3, 3, 200, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), 2)
    centre = torch.tensor([1.0, 0.5], dtype=torch.float64)
    for axis, (name, d) in zip(axes, DISTANCES.items(), strict=True):
        far = d(grid, centre).numpy()
        filled = axis.contourf(ticks.numpy(), ticks.numpy(), far, levels=12, cmap="viridis")
        figure.colorbar(filled, ax=axis)
        axis.plot(1, 0.5, "o", color="white", markeredgecolor="black")
        axis.plot(0, 0, "+", color="white")
        axis.set_aspect("equal")
        broken = [BREACHES[rule] for rule, holds in kept[name].items() if not holds]
        finish(axis, f"{name}: {' and '.join(broken) or 'keeps all four rules'}")
        axis.title.set_fontsize(8)
    return figure
