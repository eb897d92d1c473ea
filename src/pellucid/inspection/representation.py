"""How images lie to each other in the features of a model: PCA, likeness of layers (CKA), k-NN.

Linear CKA (Kornblith et al., 2019) compares two sets of features of the same images by how alike
their n x n tables of inner products are. It is 1 for the same features, also when they are turned
or made larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.inspection.sites import Site
from pellucid.inspection.trace import Op, Tracer, looking

COARSE = 16
"""Maps that are larger are averaged to this many rows and columns."""
NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model makes of n images.

    Args:
        features: what enters the last layer, float64 (n, d).
        tables: for each site the table of inner products of its centred values, of norm 1,
            float64 (sites, n * n).
    """

    features: Tensor
    tables: Tensor


def see(model: nn.Module, batches: Iterable[Tensor], where: Sequence[Site], last: int) -> Seen:
    """Return what `model` makes of images.

    Args:
        model: any.
        batches: prepared images, each (B, C, H, W).
        where: the layers that are compared.
        last: index of the operation whose input the features are.
    """
    features: list[Tensor] = []
    found: dict[int, list[Tensor]] = {site.op: [] for site in where}

    def seen(op: Op) -> None:
        if op.index == last:
            features.append(op.args[0].detach().flatten(1).double().cpu())
        if op.index in found:
            found[op.index].append(_coarse(op.out.detach()).flatten(1).cpu().clone())

    with looking(model), torch.no_grad():
        for images in batches:
            with Tracer(model, images, seen):
                model(images)
    return Seen(
        torch.cat(features),
        torch.stack([table(torch.cat(found[site.op]).double()) for site in where]),
    )


def _coarse(values: Tensor) -> Tensor:
    if values.dim() == 4 and max(values.shape[2:]) > COARSE:
        return F.adaptive_avg_pool2d(values, COARSE)
    return values


def table(features: Tensor) -> Tensor:
    """Return the table of inner products of centred features (n, d), flat, of norm 1.

    All zeros where the features do not vary.
    """
    centred = features - features.mean(0)
    products = (centred @ centred.T).flatten()
    found: Tensor = products / products.norm().clamp_min(1e-300)
    return found


def cka(one: Tensor, other: Tensor) -> float:
    """Return the linear CKA of two sets of features, float64 (n, d) and (n, e).

    >>> x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]]).double()
    >>> round(cka(x, 3 * x.flip(1)), 12)
    1.0
    """
    return float(table(one) @ table(other))


def cka_by_features(one: Tensor, other: Tensor) -> float:
    """Return the same by |Y'X|^2 / (|X'X| |Y'Y|), with X and Y centred: d x e, not n x n."""
    x, y = one - one.mean(0), other - other.mean(0)
    size = float((x.T @ x).norm() * (y.T @ y).norm())
    return float((y.T @ x).norm() ** 2) / size if size else 0.0


def turned(features: Tensor, draws: torch.Generator) -> Tensor:
    """Return features (n, d), turned by three mirrors at random: lengths and angles stay."""
    for _ in range(3):
        mirror = torch.randn(features.shape[1], generator=draws, dtype=torch.float64)
        mirror = mirror / mirror.norm()
        features = features - 2 * (features @ mirror)[:, None] * mirror[None, :]
    return features


@dataclass(frozen=True, eq=False)
class Plane:
    """Features in the plane of their two largest spreads.

    Args:
        points: float64 (n, 2).
        shares: of the variance, for each component.
    """

    points: Tensor
    shares: Tensor


def plane(features: Tensor) -> Plane:
    """Return the first two principal components of features, float64 (n, d)."""
    centred = features - features.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    points = (u * s)[:, :2]
    if points.shape[1] < 2:
        points = F.pad(points, (0, 2 - points.shape[1]))
    return Plane(points, s**2 / (s**2).sum().clamp_min(1e-300))


@dataclass(frozen=True, eq=False)
class Aligned:
    """Points, turned and mirrored so that they lie as near to others as can be.

    Args:
        points: (n, 2).
        before: distance to the others before, both made of norm 1.
        after: likewise, after.
    """

    points: Tensor
    before: float
    after: float


def align(points: Tensor, onto: Tensor) -> Aligned:
    """Return `points` turned onto `onto`, both centred (n, 2): orthogonal Procrustes.

    >>> points = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0]]).double()
    >>> found = align(points.flip(1), points)
    >>> round(found.after, 6), round(found.before, 1)
    (0.0, 1.1)
    """
    u, _, v = torch.linalg.svd(points.T @ onto)
    there = points @ (u @ v)
    goal = onto / onto.norm().clamp_min(1e-300)
    size = points.norm().clamp_min(1e-300)
    return Aligned(there, float((points / size - goal).norm()), float((there / size - goal).norm()))


def neighbours(features: Tensor, labels: Tensor, classes: int) -> float:
    """Return the share of images whose five nearest others, by majority, have their class.

    Args:
        features: float64 (n, d).
        labels: int64 (n,).
        classes: how many.
    """
    apart = torch.cdist(features, features)
    apart.fill_diagonal_(torch.inf)
    near = apart.argsort(dim=1, stable=True)[:, : min(NEIGHBOURS, len(features) - 1)]
    votes = F.one_hot(labels[near], classes).sum(1)
    return float((votes.argmax(1) == labels).double().mean())
