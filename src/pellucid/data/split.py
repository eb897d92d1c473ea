"""Splitting off the validation and the test part."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from pellucid.errors import BadData
from pellucid.seeds import generator
from pellucid.values import ImageSet, Loaded, Splits


def split(loaded: Loaded, validation: float, test: float, seed: int) -> Splits:
    """Return the three parts of `loaded`; parts that the data brings are kept as they are.

    Args:
        loaded: what the source brought.
        validation: share of the training images for validation, stratified, drawn by `seed`;
            0 gives none.
        test: share for the test part where the data has none; chosen by the images' names (or
            positions) alone, **not** by the seed, so that the sealed part stays the same
            whatever else is tried.
        seed: of the run.

    Raises:
        BadData: if a class is too small to be in each part.
    """
    train, sealed, notes = loaded.train, loaded.test, list(loaded.notes)
    if sealed is None and test:
        keep, take = _by_name(train, test)
        train, sealed = train.part(keep), train.part(take, _sibling(train, "test"))
        notes.append(f"test part: {len(sealed)} images set apart by name, the same for any seed")
    held = loaded.validation
    if held is None and validation:
        keep, take = stratified(train.targets, validation, generator(seed, "split"))
        train, held = train.part(keep), train.part(take, _sibling(train, "validation"))
        notes.append(f"validation part: {len(held)} of {len(keep) + len(take)} images, by seed")
    none = torch.empty(0, dtype=torch.int64)
    splits = Splits(
        train,
        train.part(none, _sibling(train, "validation")) if held is None else held,
        train.part(none, _sibling(train, "test")) if sealed is None else sealed,
        tuple(notes),
        loaded.random,
    )
    _check(splits)
    return splits


def stratified(labels: Tensor, share: float, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return positions to keep and positions to take, both ascending.

    Of each class `share` is taken, rounded to the nearest whole number of images, but at least
    1 and never the last one.

    >>> keep, take = stratified(torch.tensor([0, 0, 0, 0, 1, 1]), 0.25, generator(0, "split"))
    >>> len(keep), len(take)
    (4, 2)
    """
    taken = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=draws)
        taken.append(members[order[: _count(len(members), share)]])
    return _both(len(labels), torch.cat(taken))


def _by_name(data: ImageSet, share: float) -> tuple[Tensor, Tensor]:
    taken = []
    labels = data.targets
    for label in labels.unique():
        members = (labels == label).nonzero().flatten().tolist()
        members.sort(key=lambda i: hashlib.sha256(data.describe(i).encode()).digest())
        taken += members[: _count(len(members), share)]
    return _both(len(labels), torch.tensor(taken))


def _count(size: int, share: float) -> int:
    return min(max(1, round(share * size)), size - 1)


def _both(n: int, taken: Tensor) -> tuple[Tensor, Tensor]:
    mask = torch.zeros(n, dtype=torch.bool)
    mask[taken] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()


def _sibling(data: ImageSet, part: str) -> str:
    return f"{data.name.rsplit('/', 1)[0]}/{part}"


def _check(splits: Splits) -> None:
    counts = torch.bincount(splits.train.targets, minlength=len(splits.train.classes))
    missing = [name for name, n in zip(splits.train.classes, counts.tolist(), strict=True) if not n]
    if len(splits.train.classes) < 2 or missing:
        raise BadData(
            f"each of at least two classes needs images in the training part. Classes: "
            f"{', '.join(splits.train.classes)}; without images there: "
            f"{', '.join(missing) or '-'}. Add images, or give the validation and test parts "
            "a smaller share (--data.validation, --data.test)."
        )
