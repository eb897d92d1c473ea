"""The short form of the data check, before every training: what the decoded images tell at once."""

from __future__ import annotations

import torch

from pellucid.checks.check import some
from pellucid.checks.data_classes import FEW
from pellucid.checks.data_text import plural
from pellucid.checks.diagnosis_data import digests
from pellucid.values import ImageSet, Splits


def short_check(splits: Splits) -> tuple[str, ...]:
    """Return sentences on images that are in two parts, pixel by pixel, and on small classes.

    Costs one pass over all pixels, about 0.2 s for 70,000 small images. Hashing the test images is
    not opening the test part: nothing is predicted.

    >>> from pellucid.data.digits import Digits
    >>> from pellucid.data.split import split
    >>> short_check(split(Digits().load(), 0.1, 0.0, seed=0))
    ()
    """
    parts = [part for part in (splits.train, splits.validation, splits.test) if len(part)]
    where = {part.name: dict(zip(digests(part), range(len(part)), strict=True)) for part in parts}
    notes = []
    for at, part in enumerate(parts):
        for other in parts[:at]:
            shared = where[part.name].keys() & where[other.name].keys()
            if shared:
                notes.append(_shared(part, other, where, shared))
    return (*notes, *_small(splits.train))


def _shared(
    part: ImageSet, other: ImageSet, where: dict[str, dict[bytes, int]], shared: set[bytes]
) -> str:
    pairs = sorted((where[part.name][key], where[other.name][key]) for key in shared)
    names = some(f"{part.describe(one)} = {other.describe(two)}" for one, two in pairs)
    kinds = plural(len(shared), "image")
    return (
        f"{kinds} of {part.name} {'is' if len(shared) == 1 else 'are'} also in {other.name}, pixel "
        f"by pixel: {names}. pellucid data check finds near copies too."
    )


def _small(train: ImageSet) -> tuple[str, ...]:
    counts = torch.bincount(train.targets, minlength=len(train.classes)).tolist()
    small = [f"{name} ({n})" for name, n in zip(train.classes, counts, strict=True) if n < FEW]
    return (f"Fewer than {FEW} images to train on: {some(small)}.",) if small else ()
