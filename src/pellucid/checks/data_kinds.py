"""Findings about how images are stored: unreadable files, odd modes, sizes, single colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.checks.check import some
from pellucid.checks.data_pictures import Pictures
from pellucid.checks.data_text import DataFinding, plural
from pellucid.data.decode import ODD

Ints = NDArray[np.int64]

LONG = 2.0
"""Longer side / shorter side from which on the centred square loses half of the image."""
TINY = 16
"""Shorter side in pixels below which there is little to see."""
TELLS = 0.1
"""How much better than the largest class the kind of file may tell the class."""


def kind_findings(
    pictures: Pictures, labels: Ints, classes: Sequence[str], total: int
) -> Iterator[DataFinding]:
    """Yield what is to be said of files and their kinds.

    Args:
        pictures: the N images that could be read.
        labels: (N,).
        classes: names of the classes.
        total: of all images, also those that could not be read.
    """
    yield from _unreadable(pictures, total)
    yield from _flat(pictures)
    yield from _tells(pictures, labels)
    yield from _grey(pictures)
    for name, positions in sorted(pictures.odd.items()):
        yield DataFinding(
            name, "note",
            f"{len(positions):,} of {len(pictures):,} images: {ODD[name]}.", {"n": len(positions)},
            items=_files(pictures, positions),
        )  # fmt: skip
    yield from _shapes(pictures)


def sizes(pictures: Pictures) -> dict[str, Any]:
    """Return widths and heights: extremes, median, and the most frequent pairs."""
    if not len(pictures):
        return {}
    pairs, counts = np.unique(pictures.sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:5]
    low, middle, high = (
        np.percentile(pictures.sizes, share, axis=0, method="lower").tolist()
        for share in (0, 50, 100)
    )
    return {
        "different": len(pairs),
        "smallest": low,
        "median": middle,
        "largest": high,
        "common": [[*pairs[at].tolist(), int(counts[at])] for at in order],
    }


def _unreadable(pictures: Pictures, total: int) -> Iterator[DataFinding]:
    bad = pictures.unreadable
    if bad:
        yield DataFinding(
            "unreadable-files", "error",
            f"{plural(len(bad), 'file')} of {total:,} cannot be read as an image.",
            {"n": len(bad), "of": total},
            "Repair or remove them; --data.skip-unreadable trains without them.",
            tuple({"file": name, "reason": reason} for _, name, reason in bad),
        )  # fmt: skip


def _flat(pictures: Pictures) -> Iterator[DataFinding]:
    if pictures.flat:
        verb = "is" if len(pictures.flat) == 1 else "are"
        yield DataFinding(
            "one-colour", "warning",
            f"{plural(len(pictures.flat), 'image')} of {len(pictures):,} {verb} of one colour.",
            {"n": len(pictures.flat), "of": len(pictures)},
            "There is nothing to see on them: look where they come from, and remove them.",
            _files(pictures, pictures.flat),
        )  # fmt: skip


def _tells(pictures: Pictures, labels: Ints) -> Iterator[DataFinding]:
    """Yield a warning if how images are stored says which class they are."""
    shape = [f"{width} x {height}" for width, height in pictures.sizes.tolist()]
    for what, keys in (("format and mode", pictures.kinds), ("size", shape)):
        told, most, n = _guessed(keys, labels)
        if n >= 50 and told - most > TELLS:
            yield DataFinding(
                "storage-tells-class", "warning",
                f"The {what} of a file alone tells its class for {told:.0%} of {n:,} images; "
                f"always answering the largest class is right for {most:.0%}.",
                {"told": told, "largest": most, "n": n},
                "A network may learn how files were stored and not what they show: store all "
                "classes alike, from the same source.",
            )  # fmt: skip


def _guessed(keys: Sequence[str], labels: Ints) -> tuple[float, float, int]:
    """Return how often the class of every second image follows from its key.

    The rule is taken from the other half, so that it gains nothing by chance.

    Returns:
        The share that is right, that of the most frequent class, and the number of images.
    """
    if not len(labels):
        return 0.0, 0.0, 0
    by_key: dict[str, Counter[int]] = {}
    order = np.argsort(labels, kind="stable")  # both halves get half of each class
    known, asked = order[::2].tolist(), order[1::2].tolist()
    whole = Counter(labels[known].tolist())
    for at in known:
        by_key.setdefault(keys[at], Counter())[int(labels[at])] += 1
    best = {key: counts.most_common(1)[0][0] for key, counts in by_key.items()}
    largest = whole.most_common(1)[0][0]
    right = sum(best.get(keys[at], largest) == int(labels[at]) for at in asked)
    usual = sum(int(labels[at]) == largest for at in asked)
    n = len(asked)
    return right / max(n, 1), usual / max(n, 1), n


def _grey(pictures: Pictures) -> Iterator[DataFinding]:
    grey = [at for at, kind in enumerate(pictures.kinds) if kind.endswith(GREY)]
    if 0 < len(grey) < len(pictures):
        yield DataFinding(
            "grey-among-colours", "note",
            f"{len(grey):,} of {len(pictures):,} images are grey, and get three equal channels.",
            {"n": len(grey)},
            items=_files(pictures, grey),
        )  # fmt: skip


GREY = ("grey", "1-bit", "grey with alpha")


def _shapes(pictures: Pictures) -> Iterator[DataFinding]:
    long_ = (pictures.sizes.max(1) >= LONG * pictures.sizes.min(1)).nonzero()[0].tolist()
    if long_:
        yield DataFinding(
            "long-images", "note",
            f"{len(long_):,} of {len(pictures):,} images are at least twice as long as wide: their "
            "centred square shows half of them or less.", {"n": len(long_)},
            "Cut them yourself where the object is not in the middle.",
            _files(pictures, long_),
        )  # fmt: skip
    tiny = (pictures.sizes.min(1) < TINY).nonzero()[0].tolist()
    if tiny:
        names = [pictures.names[at] for at in tiny]
        yield DataFinding(
            "tiny-images", "note",
            f"{len(tiny):,} of {len(pictures):,} images have a side below {TINY} pixels: "
            f"{some(names)}.", {"n": len(tiny)},
            items=_files(pictures, tiny),
        )  # fmt: skip


def _files(pictures: Pictures, positions: Sequence[int]) -> tuple[dict[str, Any], ...]:
    return tuple({"file": pictures.names[at]} for at in positions)
