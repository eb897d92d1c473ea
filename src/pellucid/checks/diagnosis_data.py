"""What can be known of the data without training: twins in two parts, labels against pixels."""

from __future__ import annotations

import hashlib
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.checks.diagnosis_facts import Agreement, DataFacts
from pellucid.values import ImageSet, Splits

TWIN = 0.01
"""Distance below which two images are copies, relative to their size as vectors. The distances of
equal images are not 0 but up to 0.002: many at once are computed by way of squares."""

CHUNK = 1000
"""Images per pass over the pixels."""

POOL = 2000
"""Training images among which nearest neighbours are looked for."""

ASKED = 1000
"""Images of each part whose nearest neighbours are looked for."""

SIDE = 14
"""Images are averaged down to this many pixels a side: neighbours are to be alike, not equal."""


def look_at_data(splits: Splits) -> DataFacts:
    """Return what the images and labels of the three parts say before any training.

    Hashing the test images is not opening the test part: nothing is predicted. Costs one pass
    over all pixels, and the distances of 2,000 images to 2,000.
    """
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    hashes = {name: digests(data) for name, data in parts.items()}
    labels: dict[bytes, set[int]] = {}
    for key, label in zip(hashes["train"], splits.train.targets.tolist(), strict=True):
        labels.setdefault(key, set()).add(label)
    pairs = (("validation", "train"), ("test", "train"), ("test", "validation"))
    shared = []
    for name, other in pairs:
        there = set(hashes[other])
        shared.append((name, other, sum(h in there for h in hashes[name]), len(hashes[name])))
    pool = _spread(splits.train, POOL)
    return DataFacts(
        shared=tuple(row for row in shared if row[2]),
        conflicts=sum(len(labels[key]) > 1 for key in hashes["train"]),
        train=neighbours(pool, None),
        validation=neighbours(pool, _spread(splits.validation, ASKED)),
    )


def digests(data: ImageSet) -> list[bytes]:
    """Return a hash of the pixels of each image: equal where the pixels are."""
    return [
        hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        for index in torch.arange(len(data)).split(CHUNK)
        for pixels in data.pixels(index).numpy()
    ]


def neighbours(pool: ImageSet, asked: ImageSet | None) -> Agreement | None:
    """Return how labels agree with those of the nearest images of `pool`.

    Args:
        pool: training images.
        asked: images of another part; None asks at most 1,000 of the pool about the others.

    Returns:
        The agreement; None where there are too few images to say anything.
    """
    known, labels = _pooled(pool), pool.targets
    if asked is not None and not len(asked):
        return None
    if asked is None:
        rows = torch.arange(len(pool))[: min(len(pool), 2 * ASKED) : 2]
        distance = torch.cdist(known[rows], known)
        distance[torch.arange(len(rows)), rows] = torch.inf
        given = labels[rows]
    else:
        distance, given = torch.cdist(_pooled(asked), known), asked.targets
    distance[distance < TWIN * known.shape[1] ** 0.5] = torch.inf  # a copy tells nothing
    return agreement(given, labels[distance.argmin(1)], pool.classes)


def agreement(labels: Tensor, said: Tensor, classes: tuple[str, ...]) -> Agreement | None:
    """Return how `labels` (N,) agree with what is `said` (N,) of the same images.

    >>> truth = torch.arange(200) % 4
    >>> found = agreement((truth + 1) % 4, truth, ("a", "b", "c", "d"))
    >>> found.as_is, found.relabelled, found.chance
    (0.0, 1.0, 0.25)
    """
    size = len(classes)
    if len(labels) < 4 * size:
        return None
    table = torch.zeros(2, size, size)  # half, label, said
    half = _halves(labels)
    table.index_put_((half, labels, said), torch.ones(len(labels)), accumulate=True)
    suggested = _renaming(table[0])
    judged, n = table[1], int(table[1].sum())
    right, renamed = judged.diagonal(), judged[torch.arange(size), suggested]
    worst = int((renamed - right).argmax())
    chance = float((judged.sum(1) / n * (table.sum((0, 1)) / len(labels))).sum())
    example = (classes[worst], classes[int(suggested[worst])])
    return Agreement(n, float(right.sum()) / n, float(renamed.sum()) / n, chance, example)


def _renaming(table: Tensor) -> Tensor:
    """Return for each class another name, each name once: greedily, the clearest case first.

    One to one, or a network that always says the same would fit every class renamed to it.
    """
    size, rest = len(table), table.clone()
    names = torch.zeros(size, dtype=torch.int64)
    for _ in range(size):
        label, said = divmod(int(rest.argmax()), size)
        names[label] = said
        rest[label, :] = rest[:, said] = -1
    return names


def _halves(labels: Tensor) -> Tensor:
    """Return 0 or 1 for each label, in turn within each class."""
    seen: Counter[int] = Counter()
    halves = []
    for label in labels.tolist():
        halves.append(seen[label] % 2)
        seen[label] += 1
    return torch.tensor(halves)


def _spread(data: ImageSet, count: int) -> ImageSet:
    count = min(count, len(data))
    return data.part(torch.arange(count) * len(data) // max(count, 1))


def _pooled(data: ImageSet) -> Tensor:
    chunks = torch.arange(len(data)).split(CHUNK)
    return torch.cat([features(data.pixels(index).float()) for index in chunks])


def features(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) as vectors: averaged down, each with mean 0 and deviation 1."""
    size = (min(SIDE, images.shape[2]), min(SIDE, images.shape[3]))
    x = F.adaptive_avg_pool2d(images, size).flatten(1)
    return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True).clamp_min(1e-6)
