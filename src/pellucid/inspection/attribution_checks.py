"""Is a heat map worth anything? Tests that it could fail."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.attribution import Question
from pellucid.seeds import generator

PIECES = 28
"""Steps in which pixels are deleted or inserted."""
ORDERS = 5
"""Random orders that a method is compared with."""
DEPENDS = 0.5
"""Rank correlation with the map of a randomised model above which a map hardly depends on it."""


@dataclass(frozen=True)
class Curves:
    """What becomes of the logit.

    Args:
        deletion: mean logit while the pixels that count most are taken away first.
        insertion: mean logit while they are put in first.
    """

    deletion: float
    insertion: float


def spearman(one: Tensor, other: Tensor) -> float:
    """Return the rank correlation of two maps; equal values share a rank. nan for a constant map.

    >>> round(spearman(torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 8, 27])), 6)
    1.0
    """
    a, b = _ranks(one.flatten()), _ranks(other.flatten())
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else float("nan")


def _ranks(values: Tensor) -> Tensor:
    """Return the ranks of values (N,), from 0; equal ones get their mean rank."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    middle = ends - (counts.double() + 1) / 2
    ranks: Tensor = middle[inverse]
    return ranks


def constant(values: Tensor) -> bool:
    """Return whether a map shows nothing: all values alike, or none finite."""
    if not bool(values.isfinite().all()):
        return True
    spread = float(values.max() - values.min())
    return spread <= 1e-12 * max(1e-30, float(values.abs().max()))


def likeness(one: Tensor, other: Tensor) -> float:
    """Return the rank correlation of the sizes of two maps, where either shows something.

    Where both are 0, as on the black ground of a digit, they agree whatever the model is.
    nan if one shows nothing there.
    """
    somewhere = (one != 0) | (other != 0)
    if int(somewhere.sum()) < 3:
        return float("nan")
    return spearman(one[somewhere].abs(), other[somewhere].abs())


def randomised(model: nn.Module) -> nn.Module:
    """Return a copy of `model` in which each tensor of weights is shuffled (Adebayo et al., 2018).

    It is as large, as dense and as wide spread as before, and knows nothing.
    """
    other = copy.deepcopy(model)
    with torch.no_grad():
        for i, parameter in enumerate(other.parameters()):
            order = torch.randperm(parameter.numel(), generator=generator(0, "randomise", i))
            flat = parameter.detach().reshape(-1)[order.to(parameter.device)]
            parameter.copy_(flat.reshape(parameter.shape))
    return other


def edges(image: Tensor) -> Tensor:
    """Return the size of the slope of an image (1, C, H, W) at each pixel, (H, W).

    It looks like a heat map and knows no model: whatever it passes is no test.
    """
    grey = image[0].mean(0)
    down, right = torch.zeros_like(grey), torch.zeros_like(grey)
    down[1:-1] = grey[2:] - grey[:-2]
    right[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    return torch.sqrt(down**2 + right**2)


def curves(q: Question, scores: Tensor) -> Curves:
    """Return what becomes of the logit while pixels go or come in the order of `scores` (H, W).

    The largest score goes first; in `PIECES` steps all pixels have gone to the baseline, or come
    from it (Petsiuk et al., 2018, there on the softmax). The mean over the steps, by trapezoids.
    """
    return _curves(q, scores.flatten().argsort(descending=True, stable=True))


def by_chance(q: Question) -> Curves:
    """Return the same for random orders: the mean over `ORDERS` of them."""
    pixels = q.image.shape[2:].numel()
    found = [
        _curves(q, torch.randperm(pixels, generator=generator(0, "deletion-order", i)))
        for i in range(ORDERS)
    ]
    return Curves(
        sum(one.deletion for one in found) / ORDERS, sum(one.insertion for one in found) / ORDERS
    )


def _curves(q: Question, order: Tensor) -> Curves:
    pixels = len(order)
    rank = torch.empty(pixels, dtype=torch.long)
    rank[order.cpu()] = torch.arange(pixels)
    pieces = min(PIECES, pixels)
    gone = torch.arange(pieces + 1) * pixels // pieces
    mask = (rank[None] < gone[:, None]).reshape(-1, 1, *q.image.shape[2:]).to(q.image.device)
    away = torch.where(mask, q.baseline, q.image)
    back = torch.where(mask, q.image, q.baseline)
    return Curves(_mean(q.logits(away)), _mean(q.logits(back)))


def _mean(values: Tensor) -> float:
    values = values.double()
    return float((values[1:] + values[:-1]).mean() / 2)
