"""Cutting a set of images into folds: each image is held out exactly once."""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
from torch import Tensor

from pellucid.errors import BadData
from pellucid.seeds import generator


class FoldSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which fold of the training images is held out for validation.

    Args:
        count: number of folds; with 1 nothing is held out, and all images are trained on.
        index: the one that is held out, from 0 to `count` - 1.
    """

    count: Annotated[int, msgspec.Meta(ge=1)]
    index: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.index >= self.count:
            raise ValueError(f"must be from 0 to {self.count - 1}, one of {self.count} folds")

    def held_out(self, labels: Tensor, groups: Tensor | None, seed: int) -> Tensor:
        """Return which images are held out, bool (N,); the folds are drawn by `seed`."""
        if self.count == 1:
            return torch.zeros(len(labels), dtype=torch.bool)
        return folds(labels, self.count, seed, groups) == self.index


def folds(labels: Tensor, count: int, seed: int, groups: Tensor | None = None) -> Tensor:
    """Return the fold of each image, int64 (N,), from 0 to `count` - 1.

    Each fold has the classes in the same proportions. Without groups the sizes of the folds, and
    of each class in them, differ by one image at most. With groups, all images of a group are in
    one fold, and the proportions are as near as a greedy choice brings them.

    Args:
        labels: int64 (N,).
        count: of folds, at least 2.
        seed: the stream `(seed, "folds")` shuffles.
        groups: int64 (N,): images of one group (a patient, a video) belong together.

    Raises:
        BadData: if a class has fewer images (or is in fewer groups) than there are folds.

    >>> folds(torch.tensor([0, 0, 0, 1, 1, 1]), 3, seed=0).bincount()
    tensor([2, 2, 2])
    """
    draws = generator(seed, "folds")
    if groups is not None:
        return _grouped(labels, groups, count, draws)
    sizes = torch.bincount(labels)
    _enough(sizes, count, "images")
    shuffled = torch.randperm(len(labels), generator=draws)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[by_class] = torch.arange(len(labels)) % count  # dealt out like cards, class after class
    return fold


def _grouped(labels: Tensor, groups: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Deal out whole groups, those of the most uneven classes first, each where it fits best."""
    names, member = groups.unique(return_inverse=True)
    classes = int(labels.max()) + 1
    table = torch.bincount(member * classes + labels, minlength=len(names) * classes)
    table = table.view(len(names), classes).double()  # images of each group and class
    _enough((table > 0).sum(0), count, "groups")
    share = table / table.sum(0).clamp(min=1)
    order = torch.randperm(len(names), generator=draws)
    order = order[share[order].std(1, correction=0).argsort(descending=True, stable=True)]
    filled = torch.zeros(count, classes, dtype=torch.float64)
    of_group = torch.empty(len(names), dtype=torch.int64)
    for group in order.tolist():
        tried = filled.expand(count, count, classes) + torch.eye(count).unsqueeze(2) * share[group]
        uneven = tried.std(1, correction=0).mean(1)  # by class, for each fold that it might go to
        best = (uneven <= uneven.min() + 1e-12).nonzero().flatten()
        fold = int(best[filled[best].sum(1).argmin()])  # of equals the emptiest
        filled[fold] += share[group]
        of_group[group] = fold
    return of_group[member]


def _enough(have: Tensor, count: int, what: str) -> None:
    short = int(have.argmin())
    if int(have[short]) < count:
        raise BadData(
            f"{count} folds need each class in at least {count} {what}; class number {short} has "
            f"{int(have[short])}. Take at most {max(int(have[short]), 0)} folds, or add images."
        )
