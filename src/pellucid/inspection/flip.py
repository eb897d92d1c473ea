"""The smallest change of an image that makes a model give another answer.

By its gradient the model is taken for linear around a point; the nearest point where two of its
logits are then equal lies at |f_a - f_b| / |gradient of f_a - f_b|. Steps like this lead over the
border (DeepFool: Moosavi-Dezfooli et al., 2016); then the nearest point of the border's tangent is
looked for, seen from the image, as long as that brings it nearer. Of a linear model the first step
is exact. Of others the search gives a small change, not surely the smallest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pellucid.inspection.border import EXACTLY, ROUGHLY, Logits, Range, Search

NEARER = 10
"""Steps along the border, at most."""
WORTH = 1e-3
"""Share by which a point must be nearer to be worth a further step."""


@dataclass(frozen=True, eq=False)
class Flip:
    """A change that flips the answer.

    Args:
        changed: the image after it (1, ...), just over the border.
        distance: L2 norm of the change.
        before: the answer of the image.
        after: that of the changed image.
        aligned: cosine of the change and the gradient at the border, where values are free to move;
            1 where no small turn would bring it nearer.
    """

    changed: Tensor
    distance: float
    before: int
    after: int
    aligned: float


def smallest_flip(
    logits: Logits, image: Tensor, *, target: int | None = None, within: Range | None = None,
    quick: Logits | None = None,
) -> Flip | None:  # fmt: skip
    """Return a small change of `image` that flips the answer of `logits`; None if none is found.

    Args:
        logits: the model.
        image: (1, ...), float; float64 to go as near to the border as can be.
        target: the answer to reach; else any other one.
        within: the values that an image can have; else any.
        quick: the same model in less precision, to search with, if it costs less. The border is
            found by `logits` even then.

    >>> weights = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]).double()
    >>> found = smallest_flip(lambda x: x @ weights.T, torch.tensor([[3.0, 1.0]]).double())
    >>> round(found.distance, 3), round(1 / 5**0.5, 3), found.after
    (0.447, 0.447, 1)
    """
    with torch.no_grad():
        before = int(logits(image)[0].argmax())
    exact = Search(logits, image, before, target, within)
    search = replace(exact, logits=quick or logits)
    search = replace(search, others=search.candidates())
    best = _nearest(search)
    if best is None:
        return None
    over = replace(exact, others=search.others).cross(best)
    if over is None:
        return None
    best = exact.back(over, EXACTLY)
    after, margin, slope = exact.edge(best)
    return Flip(best, exact.length(best), before, after, exact.aligned(best, slope))


def _nearest(search: Search) -> Tensor | None:
    """Return a point over the border from which no step along it leads much nearer."""
    found = search.cross(search.image)
    if found is None:
        return None
    best = search.back(found, ROUGHLY)
    for _ in range(NEARER):
        other = search.nearer(best)
        if other is None:
            break
        worth = search.length(other) < search.length(best) * (1 - WORTH)
        best = other
        if not worth:
            break
    return best
