"""Copies among the images of a data check: equal files, equal pixels, nearly equal pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.checks.data_near import FLAT, Neighbours, neighbours
from pellucid.checks.data_pictures import Pictures

Ints = NDArray[np.int64]
PARTS = ("train", "validation", "test")


class Pair(NamedTuple):
    """Two images that are copies of each other.

    Args:
        one: position of the image that is judged: of the smaller part, or the later one.
        other: position of its copy.
        exact: True if their pixels are equal.
        distance: 0 if they are, else as `data_near` has it.
        mirrored: True if one is like the mirror image of the other.
        same_file: True if even the files are equal, byte by byte, or there are none.
    """

    one: int
    other: int
    exact: bool
    distance: float
    mirrored: bool
    same_file: bool


@dataclass(frozen=True)
class Copies:
    """What is a copy of what.

    Args:
        groups: number of the group of each image, int64 (N,): equal pixels, equal number.
        near: the nearest nearly equal image by part; of each group the first image of each part.
        first: (groups, parts), the first image of a group in a part, or -1.
        parts: of each image.
        files: digests of the files.
    """

    groups: Ints
    near: Neighbours
    first: Ints
    parts: Ints
    files: NDArray[np.bytes_]

    def exact(self, part: int, other: int) -> list[Pair]:
        """Return each image of `part` whose pixels are also in `other`, with its copy there.

        If both are one part, each image but the first of its group.
        """
        rows = np.nonzero(self.parts == part)[0]
        there = self.first[self.groups[rows], other]
        found = (there >= 0) & (there != rows)
        return [
            Pair(one, at, True, 0.0, False, self._same_file(one, at))
            for one, at in zip(rows[found].tolist(), there[found].tolist(), strict=True)
        ]

    def nearly(self, part: int, other: int) -> list[Pair]:
        """Return each image of `part` that has a nearly equal one in `other`, and no equal one.

        If both are one part, each pair once. The nearest first.
        """
        groups = np.nonzero(self.first[:, part] >= 0)[0]
        rows = self.first[groups, part]
        found = np.isfinite(self.near.distance[rows, other])
        if part != other:
            found &= self.first[groups, other] < 0
        pairs = []
        for one in rows[found].tolist():
            at = int(self.near.partner[one, other])
            back = int(self.near.partner[at, part])
            if part == other and back == one and at > one:
                continue  # each other's nearest: told from the other side
            distance = float(self.near.distance[one, other])
            flip = bool(self.near.mirrored[one, other])
            pairs.append(Pair(one, at, False, distance, flip, False))
        return sorted(pairs, key=lambda pair: pair.distance)

    def _same_file(self, one: int, other: int) -> bool:
        return bool(self.files[one] == self.files[other])


def find_copies(pictures: Pictures, parts: Ints) -> Copies:
    """Return the copies among `pictures`.

    Images that are nearly of one colour are left out: they are all alike.

    Args:
        pictures: N images.
        parts: (N,), positions in PARTS.
    """
    _, groups = np.unique(pictures.pixels, return_inverse=True)
    groups = groups.reshape(-1).astype(np.int64)
    first = np.full((int(groups.max(initial=-1)) + 1, len(PARTS)), -1, np.int64)
    positions = np.arange(len(pictures))[::-1]  # of several, the first comes last
    first[groups[positions], parts[positions]] = positions
    spread = pictures.thumbs.std((1, 2), dtype=np.float32)
    alone = np.unique(first[first >= 0])
    asked = alone[spread[alone] >= FLAT]
    return Copies(groups, _spread_out(pictures, asked, parts), first, parts, pictures.files)


def _spread_out(pictures: Pictures, asked: Ints, parts: Ints) -> Neighbours:
    """Return the neighbours of the images `asked`, as positions among all."""
    found = neighbours(
        pictures.hashes[asked],
        pictures.mirrored[asked],
        pictures.thumbs[asked],
        parts[asked],
        len(PARTS),
    )
    n = len(pictures)
    whole = Neighbours(
        np.full((n, len(PARTS)), np.inf, np.float32),
        np.zeros((n, len(PARTS)), np.int64),
        np.zeros((n, len(PARTS)), np.bool_),
    )
    whole.distance[asked] = found.distance
    whole.partner[asked] = asked[found.partner] if len(asked) else 0
    whole.mirrored[asked] = found.mirrored
    return whole
