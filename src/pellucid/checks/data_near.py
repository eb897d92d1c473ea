"""Which of many images are nearly the same: a perceptual hash, a search, and a second look.

**Hash.** 64 bits: the signs of the 64 lowest frequencies (discrete cosine transform, without the
mean) of the brightness of the image at 32 x 32. Storing an image again as JPEG, in another size or
brighter moves few of these frequencies across zero. In a mirrored image the odd horizontal
frequencies change their signs, so its hash costs nothing more.

**Search.** Images whose hashes differ in at most `BITS` = 7 of 64 bits. Cut into four bands of 16
bits, at least one band then differs in at most one bit: only images in the same or a neighbouring
bucket are compared (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index
hashing", 2012). Where the buckets are too full to pay, all pairs are compared instead.

**Second look.** Hashes of images that are merely alike may be close too. So the brightness at 16 x
16 is compared: of both, the mean is taken away, and the length brought to 1. Below `SURE` two
images are nearly the same. Between that and `NEAR` they are if they are alone: if hardly any other
image has a hash that is close to one of theirs. And never in a set of which many images have close
hashes: handwritten digits are alike by nature, and the near ones merely the nearest of many.

Colour is not compared: a photo that was recoloured is a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.data.measured import SIDE

THUMB = 16
"""The second look at images of this many."""
BITS = 7
"""Hashes that differ in more bits than this are not looked at again."""
SURE = 0.05
NEAR = 0.25
"""Distances in the second look. docs/data-check.md says how they were fixed."""
STRANGERS = 3
"""Images with a close hash, and not near in the second look, that one may have to be alone."""
ALIKE = 1e-5
"""Share of all pairs that are strangers from which on the images of a set are alike by nature. Of
photos it is 5e-7 (CIFAR-10), of clothes 4e-4 (Fashion-MNIST), of digits 2e-3 (MNIST)."""
FEW = 10
"""So many strangers may be chance."""
LOOKS = ((2, 256), (BITS, 64))
"""Up to so many differing bits an image is looked at so often: bounds the work where all images
are alike. Copies differ in 0 to 2 bits."""
FLAT = 3.0
"""Standard deviation in grey values below which an image is too even to be told from others."""
PAIRS = 1 << 21
"""Candidates per pass: bounds the memory."""

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


def _zigzag(count: int) -> tuple[list[int], list[int]]:
    """Return rows and columns of the lowest frequencies after the mean."""
    side = range(count)
    order = sorted(((u, v) for u in side for v in side), key=lambda at: (sum(at), at))
    rows, columns = zip(*order[1:65], strict=True)
    return list(rows), list(columns)


ROWS, COLUMNS = _zigzag(12)
ODD = np.array(COLUMNS) % 2 == 1


def _basis() -> NDArray[np.float32]:
    """Return the first 12 cosines over SIDE pixels, one per row."""
    pixel = (np.arange(SIDE) + 0.5) * np.pi / SIDE
    return np.cos(np.arange(12)[:, None] * pixel).astype(np.float32)


BASIS = _basis()


def perceptual_hashes(brightness: NDArray[np.float32]) -> tuple[Hashes, Hashes]:
    """Return the hashes of images and of their mirror images.

    Args:
        brightness: (N, 32, 32).
    Returns:
        Two uint64 arrays (N,).
    """
    frequencies = (BASIS @ brightness @ BASIS.T)[:, ROWS, COLUMNS]  # (N, 64)
    # A frequency that is not there at all would have the sign of rounding errors.
    least = 0.02 * np.sqrt(np.square(frequencies).mean(1, keepdims=True)) + 1e-3
    mirrored = np.where(ODD, -frequencies, frequencies)
    return _packed(frequencies > least), _packed(mirrored > least)


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64).reshape(-1)


class Neighbours(NamedTuple):
    """For each image the nearest one that is nearly the same, in each group of images.

    Args:
        distance: float32 (N, G), inf where there is none.
        partner: int64 (N, G), positions.
        mirrored: bool (N, G), True if the partner is like the image's mirror image.
    """

    distance: NDArray[np.float32]
    partner: Ints
    mirrored: NDArray[np.bool_]


def neighbours(
    hashes: Hashes, mirrored: Hashes, thumbs: NDArray[np.uint8], groups: Ints, count: int
) -> Neighbours:
    """Return the nearest nearly equal image of each image in each group.

    Args:
        hashes: (N,).
        mirrored: (N,), of the mirror images.
        thumbs: brightness, uint8 (N, 16, 16).
        groups: (N,), the group of each image, from 0 to `count` - 1.
        count: number of groups.
    """
    look = _SecondLook(thumbs, groups, count)
    for other, flip in ((hashes, False), (mirrored, True)):
        for first, second in close_pairs(hashes, other):
            look(first, second, np.bitwise_count(hashes[first] ^ other[second]), flip)
    return look.result()


class _SecondLook:
    """Compares candidates, and keeps those that are near."""

    def __init__(self, thumbs: NDArray[np.uint8], groups: Ints, count: int) -> None:
        n = len(thumbs)
        self.thumbs = thumbs
        self.groups = groups
        self.sure = np.zeros((n, count), np.bool_)
        self.looks = np.zeros(n, np.int64)
        self.strangers = np.zeros(n, np.int64)
        self.near: list[tuple[Ints, Ints, NDArray[np.float32], bool]] = []

    def __call__(self, first: Ints, second: Ints, bits: NDArray[np.uint8], flip: bool) -> None:
        """Look at pairs whose hashes differ in `bits` bits; `flip` turns the first one round."""
        wanted = ~(self.sure[first, self.groups[second]] & self.sure[second, self.groups[first]])
        least = np.minimum(self.looks[first], self.looks[second])
        wanted &= (least < LOOKS[1][1]) | ((bits <= LOOKS[0][0]) & (least < LOOKS[0][1]))
        first, second = first[wanted], second[wanted]
        distance = self.distances(first, second, flip)
        sure, stranger = distance < SURE, ~(distance < NEAR)
        for one, other in ((first, second), (second, first)):
            self.sure[one[sure], self.groups[other[sure]]] = True
            self.looks += np.bincount(one, minlength=len(self.looks))
            self.strangers += np.bincount(one[stranger], minlength=len(self.looks))
        near = ~stranger
        self.near.append((first[near], second[near], distance[near], flip))

    def distances(self, first: Ints, second: Ints, flip: bool) -> NDArray[np.float32]:
        """Return the distance of each pair, nan if one of them is of one brightness."""
        out = np.empty(len(first), np.float32)
        for start in range(0, len(first), 8192):
            at = slice(start, start + 8192)
            a, b = self._vectors(first[at], flip), self._vectors(second[at], False)
            out[at] = np.sqrt(np.maximum(2 - 2 * np.einsum("ij,ij->i", a, b), 0))
        return out

    def _vectors(self, index: Ints, flip: bool) -> NDArray[np.float32]:
        images = self.thumbs[index]
        x = (images[:, :, ::-1] if flip else images).reshape(len(index), -1).astype(np.float32)
        x -= x.mean(1, keepdims=True)
        length = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
        length[length < FLAT * np.sqrt(x.shape[1])] = np.nan
        x /= length
        return x

    def result(self) -> Neighbours:
        """Return the nearest in each group."""
        n, count = self.sure.shape
        found = Neighbours(
            np.full((n, count), np.inf, np.float32),
            np.zeros((n, count), np.int64),
            np.zeros((n, count), np.bool_),
        )
        alone = self.strangers <= STRANGERS
        if self.strangers.sum() > max(2 * FEW, ALIKE * n * n):  # both count each pair twice
            alone[:] = False
        for first, second, distance, flip in self.near:
            good = (distance < SURE) | (alone[first] & alone[second])
            pair = first[good], second[good]
            for one, other in (pair, pair[::-1]):
                _keep_nearest(found, one, other, distance[good], self.groups[other], flip)
        return found


def _keep_nearest(
    found: Neighbours,
    one: Ints,
    other: Ints,
    distance: NDArray[np.float32],
    group: Ints,
    flip: bool,
) -> None:
    better = np.nonzero(distance < found.distance[one, group])[0]
    order = better[np.argsort(-distance[better], kind="stable")]  # of several the nearest is last
    at = one[order], group[order]
    found.distance[at] = distance[order]
    found.partner[at] = other[order]
    found.mirrored[at] = flip


def close_pairs(hashes: Hashes, others: Hashes, bits: int = BITS) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs i < j whose hashes differ in at most `bits` bits, each pair once.

    Compares `hashes[i]` with `others[j]`; both belong to the same images. Bands find all of them
    for up to 7 bits.

    Args:
        hashes: uint64 (N,).
        others: the same array, or the hashes of the mirror images.
        bits: at most 7.
    """
    n = len(hashes)
    ours, theirs = _bands(hashes), _bands(others)
    buckets = [_Buckets(theirs[:, band]) for band in range(4)]
    work = sum(
        int(bucket.sizes[ours[:, band] ^ flip].sum())
        for band, bucket in enumerate(buckets)
        for flip in FLIPS
    )
    if 3 * work > n * n // 2:  # a candidate costs three times as much as a pair in order
        yield from _all_pairs(hashes, others, bits)
        return
    for band, bucket in enumerate(buckets):
        for flip in FLIPS:
            for first, second in bucket.pairs(ours[:, band] ^ flip):
                differing = hashes[first] ^ others[second]
                good = (first < second) & (np.bitwise_count(differing) <= bits)
                first, second, differing = first[good], second[good], differing[good]
                early = _bands(differing)[:, :band]  # also found by an earlier band?
                new = (np.bitwise_count(early) > 1).all(1)
                yield first[new], second[new]


FLIPS = (0, *(1 << bit for bit in range(16)))
"""What makes a band of 16 bits another one that differs in at most one bit."""


def _bands(hashes: Hashes) -> NDArray[np.uint16]:
    """Return the hashes (N,) as four bands of 16 bits, (N, 4)."""
    return np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, 4)


class _Buckets:
    """Images by the value of one band."""

    def __init__(self, keys: NDArray[np.uint16]) -> None:
        self.order = np.argsort(keys, kind="stable")
        self.sizes = np.bincount(keys, minlength=1 << 16)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])[:-1]

    def pairs(self, asked: NDArray[Any]) -> Iterator[tuple[Ints, Ints]]:
        """Yield each asked position with all the images of its bucket, in pieces."""
        sizes = self.sizes[asked]
        ends = np.cumsum(sizes)
        start = 0
        while start < len(asked):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS, side="right")))
            n = sizes[start:stop]
            first = np.repeat(np.arange(start, stop), n)
            offset = np.arange(len(first)) - np.repeat(np.cumsum(n) - n, n)
            yield first, self.order[np.repeat(self.starts[asked[start:stop]], n) + offset]
            start = stop


def _all_pairs(hashes: Hashes, others: Hashes, bits: int) -> Iterator[tuple[Ints, Ints]]:
    n = len(hashes)
    rows = max(1, PAIRS // max(n, 1))
    for start in range(0, n, rows):
        block = np.bitwise_count(hashes[start : start + rows, None] ^ others[None, start:]) <= bits
        first, second = np.nonzero(block)
        later = first < second
        yield first[later] + start, second[later] + start
