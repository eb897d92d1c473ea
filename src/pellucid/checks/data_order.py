"""Do the labels of two parts mean the same? Told by the pixels, without any training.

A part whose classes were numbered in another order looks sound: every label is there, only that
class 3 of one part shows what class 5 of the other does. Each image is compared with training
images, and what its most similar ones are labelled is counted. If the images of a class get the
answers that the *training* images of another class get, and not those of their own, labels were
mixed up. Two classes at least have to, each by a wide margin, or nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.checks.data_duplicates import PARTS
from pellucid.checks.data_text import DataFinding, plural

POOL, ASKED = 5000, 2000
"""Training images to compare with, and images of a part to ask about; evenly over the classes."""
NEAREST = 10
LEAST = 10
"""Images of a class in a part below which nothing is said of it."""
NOISE = 3.0
"""Standard errors by which the answers have to differ from those of the own class, and also by"""
APART = 0.08
"""this share of all answers; and to those of the other class they have to be"""
NEARER = 0.5
"""as near as this, as a share of the distance to the own class."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Looks = Callable[[Ints], Floats]


class Answers(NamedTuple):
    """What the most similar training images of each class are labelled.

    Args:
        share: (K, K) mean share of the answers (columns) for images with a label (rows).
        n: (K,) images with each label.
    """

    share: Floats
    n: Ints


def order_findings(
    looks: Looks, labels: Ints, parts: Ints, classes: Sequence[str]
) -> Iterator[DataFinding]:
    """Yield a finding for each part whose labels seem to mean other classes than in training.

    Args:
        looks: called with M of the positions 0 to N - 1, returns what these images look like,
            (M, D): distances between rows say how alike they are.
        labels: (N,) from 0 to K - 1.
        parts: (N,) positions in PARTS.
        classes: K names.
    """
    train = np.flatnonzero(parts == 0)
    if len(classes) < 2 or not len(train):
        return
    pool = _spread(train, labels, POOL)
    own = _answers(looks, labels, _spread(train, labels, ASKED), pool, len(classes))
    for number, part in enumerate(PARTS[1:], 1):
        there = np.flatnonzero(parts == number)
        if not len(there):
            continue
        asked = _spread(there, labels, ASKED)
        renamed = renaming(_answers(looks, labels, asked, pool, len(classes)), own)
        if len(renamed) < 2:
            continue
        pairs = [
            {"file": classes[i], "reason": f"looks like {classes[j]} of train"}
            for i, j in renamed.items()
        ]
        first = f"{classes[next(iter(renamed))]} {pairs[0]['reason']}"
        yield DataFinding(
            "labels-in-another-order",
            "warning",
            f"{plural(len(renamed), 'class')} of {part} have images that look like those of "
            f"another class of train, and not like those of their own: {first}.",
            {"n": len(renamed), "images": len(asked)},
            "Compare the order of the classes in both parts (sorted as text, as numbers, from 0, "
            "from 1); look at some images of each part with their labels.",
            tuple(pairs),
        )


def looks_of(thumbs: NDArray[np.uint8], mean: Floats, square: Floats) -> Floats:
    """Return what images look like: brightness over the place, and colour.

    Args:
        thumbs: brightness, uint8 (N, S, S).
        mean: of each channel, (N, C), in [0, 1].
        square: likewise, of the squares.
    """
    flat = thumbs.reshape(len(thumbs), -1) / 255.0
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    weight = np.sqrt(flat.shape[1] / 8)  # colour counts as much as a part of the picture
    return np.concatenate([flat, weight * mean, weight * spread], 1)


def renaming(answers: Answers, own: Answers) -> dict[int, int]:
    """Return which class of the training part each class shows, where it is surely another.

    Each class is shown by one other at most; a class that may as well be itself is left out.

    Args:
        answers: of the part in question.
        own: of training images.
    """
    size = len(own.n)
    apart = np.abs(answers.share[:, None] - own.share[None]).sum(2) / 2  # total variation
    per_image = np.sqrt(answers.share * (1 - answers.share)).sum(1) / 2
    noise = per_image * np.sqrt(1 / np.maximum(answers.n, 1) + 1 / np.maximum(own.n, 1))
    itself = apart.diagonal()
    known = (answers.n >= LEAST) & (own.n >= LEAST)
    moved = known & (itself > APART) & (itself > NOISE * noise)
    open_ = moved[:, None] & known[None] & (apart < NEARER * itself[:, None])
    found: dict[int, int] = {}
    for place in np.argsort(apart, axis=None, kind="stable"):
        i, j = divmod(int(place), size)
        if open_[i, j] and i not in found and j not in found.values():
            found[i] = j
    return dict(sorted(found.items()))


def _answers(looks: Looks, labels: Ints, asked: Ints, pool: Ints, size: int) -> Answers:
    """Return what the most similar images of `pool` say; an image says nothing of itself."""
    known, share = looks(pool), np.zeros((size, size))
    if len(pool) <= NEAREST:
        return Answers(share, np.zeros(size, np.int64))
    squares = (known**2).sum(1)
    for rows in np.array_split(asked, max(1, len(asked) // 250)):
        far = squares - 2 * looks(rows) @ known.T
        far[rows[:, None] == pool[None]] = np.inf
        near = np.argpartition(far, NEAREST, 1)[:, :NEAREST]
        np.add.at(share, (np.repeat(labels[rows], NEAREST), labels[pool[near]].ravel()), 1)
    n = np.bincount(labels[asked], minlength=size)
    return Answers(share / np.maximum(share.sum(1, keepdims=True), 1), n)


def _spread(rows: Ints, labels: Ints, most: int) -> Ints:
    """Return at most `most` of `rows`, as evenly over the classes as there are images."""
    names = np.unique(labels[rows])
    each = max(1, most // len(names))
    kept = []
    for name in names:
        mine = rows[labels[rows] == name]
        count = min(each, len(mine))
        kept.append(mine[np.arange(count) * len(mine) // count])
    return np.sort(np.concatenate(kept))
