"""Splitting off the validation and the test part."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from pellucid.data.folds import folds
from pellucid.data.relabel import relabelled
from pellucid.errors import BadData
from pellucid.seeds import generator
from pellucid.values import FoldRule, ImageSet, Loaded, Splits


def split(
    loaded: Loaded, validation: float, test: float, seed: int, fold: FoldRule | None = None
) -> Splits:
    """Return the three parts of `loaded`; parts that the data brings are kept as they are.

    Images of one group, where the data names groups, are never in two parts that are split here.
    Labels that a table corrects are corrected once the parts are drawn: the same images are in the
    same part with and without it.

    Args:
        loaded: what the source brought.
        validation: share of the training images for validation, stratified, drawn by `seed`;
            0 gives none.
        test: share for the test part where the data has none; chosen by the images' names (or
            positions) alone, **not** by the seed, so that the sealed part stays the same
            whatever else is tried.
        seed: of the run.
        fold: the validation part is this fold of all images that are not for the test; then
            `validation` plays no role, and the data's own validation part joins the others.

    Raises:
        BadData: if a class is too small to be in each part.
    """
    train, sealed, notes = loaded.train, loaded.test, list(loaded.notes)
    if sealed is None and test:
        keep, take = _by_name(train, test)
        train, sealed = train.part(keep), train.part(take, _sibling(train, "test"))
        notes.append(f"test part: {len(sealed)} images set apart by name, the same for any seed")
    held = loaded.validation
    if fold:
        train = _joined(train, held) if held else train
        out = fold.held_out(train.targets, train.group_ids, seed)
        held = train.part(out.nonzero().flatten(), _sibling(train, "validation"))
        train = train.part((~out).nonzero().flatten())
        place = f"fold {fold.index + 1} of {fold.count}, {len(held)} images"
        notes.append(
            f"validation part: {place if len(held) else 'none, all images are trained on'}"
        )
    elif held is None and validation:
        keep, take = _by_seed(train, validation, seed)
        train, held = train.part(keep), train.part(take, _sibling(train, "validation"))
        notes.append(f"validation part: {len(held)} of {len(keep) + len(take)} images, by seed")
    none = torch.empty(0, dtype=torch.int64)
    parts = (
        train,
        train.part(none, _sibling(train, "validation")) if held is None else held,
        train.part(none, _sibling(train, "test")) if sealed is None else sealed,
    )
    done = None
    if loaded.relabel is not None:
        parts, done = relabelled(parts, loaded.relabel)
        notes.append(done.note)
    splits = Splits(*parts, tuple(notes), loaded.random, done)
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


def _by_seed(data: ImageSet, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return positions to keep and to take, stratified; of a group all or none."""
    if data.group_ids is None:
        return stratified(data.targets, share, generator(seed, "split"))
    taken = folds(data.targets, max(2, round(1 / share)), seed, data.group_ids) == 0
    return (~taken).nonzero().flatten(), taken.nonzero().flatten()


def _by_name(data: ImageSet, share: float) -> tuple[Tensor, Tensor]:
    if data.group_ids is not None:
        return _groups_by_name(data, data.group_ids, share)
    taken = []
    labels = data.targets
    for label in labels.unique():
        members = (labels == label).nonzero().flatten().tolist()
        members.sort(key=lambda i: hashlib.sha256(data.describe(i).encode()).digest())
        taken += members[: _count(len(members), share)]
    return _both(len(labels), torch.tensor(taken))


def _groups_by_name(data: ImageSet, groups: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Take whole groups, in the order of their images' names, until `share` is reached."""
    first: dict[int, bytes] = {}
    for position, group in enumerate(groups.tolist()):
        name = hashlib.sha256(data.describe(position).encode()).digest()
        first[group] = min(first.get(group, name), name)
    taken: list[int] = []
    for group in sorted(first, key=first.__getitem__):
        if len(taken) >= round(share * len(groups)):
            break
        taken += (groups == group).nonzero().flatten().tolist()
    return _both(len(groups), torch.tensor(taken))


def _joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """Return both sets as one."""
    if first.images is second.images:
        return replace(first, rows=torch.cat([first.rows, second.rows]))
    images = torch.cat([part.images[part.rows] for part in (first, second)])
    labels = torch.cat([first.targets, second.targets])
    files = tuple(s.file(i) for s in (first, second) for i in range(len(s)))
    return ImageSet.of(images, labels, first.classes, first.name, files if any(files) else ())


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
