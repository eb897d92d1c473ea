"""The one pass of a data check over all images: each is read once, decoded once, and measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from pellucid.checks.data_near import THUMB, perceptual_hashes
from pellucid.data.decode import NotAnImage
from pellucid.data.measured import SIDE, Measured
from pellucid.data.workers import CHUNK, Workers
from pellucid.values import Progress

HELD = 8 << 20
"""Bytes of the images of a task, if they are not CHUNK images before."""
EXAMPLES = 8
"""Pictures of a class that are kept to be shown."""
GROUPS = 48
"""Groups of which pictures are kept: bounds the memory."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R 601."""


class Item(NamedTuple):
    """An image that has not been read yet.

    Args:
        name: what a person calls it.
        group: images of one group get their pictures spread evenly over it.
        look: reads and decodes; called with who decodes and whether a preview is wanted, returns
            what was measured, and a digest of the file or nothing.
        held: bytes that `look` keeps in memory.
    """

    name: str
    group: str
    look: Callable[[Workers, bool], tuple[Measured, bytes]]
    held: int = 0


@dataclass
class Pictures:
    """What was measured of N images that could be read, in order.

    Args:
        names: of the images.
        at: positions among all items, int64 (N,).
        files: digests of their files, bytes (N,), empty where there are none.
        pixels: digests of their pixels, bytes (N,).
        hashes: perceptual, uint64 (N,).
        mirrored: likewise, of the mirror images.
        thumbs: brightness, uint8 (N, 16, 16).
        channels: 1 if all are grey, else 3.
        sizes: width and height, int32 (N, 2).
        kinds: format and mode of each, such as `JPEG RGB`.
        odd: by what is odd: positions.
        flat: positions of images of one colour.
        mean: of each channel over the pixels of each image, float64 (N, 3), in [0, 1].
        square: likewise, of their squares.
        unreadable: (position among all items, name, reason).
        previews: small pictures by position.
    """

    names: list[str]
    at: NDArray[np.int64]
    files: NDArray[np.bytes_]
    pixels: NDArray[np.bytes_]
    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]
    channels: int
    sizes: NDArray[np.int32]
    kinds: list[str]
    odd: dict[str, list[int]]
    flat: list[int]
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    unreadable: list[tuple[int, str, str]] = field(default_factory=list)
    previews: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


class _One(NamedTuple):
    """What was measured of one image, without the small picture; and a digest of its file."""

    seen: Measured
    file: bytes


class _Chunk(NamedTuple):
    """What was measured of some images; `ones` holds a reason where one could not be read."""

    ones: list[_One | str]
    thumbs: NDArray[np.uint8]
    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]


def measure(items: Iterable[Item], total: int, progress: Progress) -> Pictures:
    """Return what there is to know of the images of `items`, each looked at once.

    Costs about a kilobyte for each image, its name included.

    Args:
        items: in order; taken while earlier ones are measured.
        total: how many there are, 0 if that is not known.
        progress: told how far this is.
    """
    keep = _Keep()
    names: list[str] = []
    chunks: list[_Chunk] = []
    tasks = _tasks(items, names, keep)
    with Workers() as workers:
        for chunk in workers.in_order(partial(_measured, workers), tasks):
            chunks.append(chunk)
            progress("checking images", CHUNK * (len(chunks) - 1), total)
    progress("checking images", len(names), len(names))
    return _collected(names, chunks, keep)


def _tasks(
    items: Iterable[Item], names: list[str], keep: _Keep
) -> Iterator[list[tuple[Item, bool]]]:
    task: list[tuple[Item, bool]] = []
    held = 0
    for position, item in enumerate(items):
        names.append(item.name)
        task.append((item, keep.wants(item.group, position)))
        held += item.held
        if len(task) == CHUNK or held > HELD:
            yield task
            task, held = [], 0
    if task:
        yield task


class _Keep:
    """Chooses images of each group, evenly spread, without knowing how many will come."""

    def __init__(self) -> None:
        self.seen: defaultdict[str, int] = defaultdict(int)
        self.kept: defaultdict[str, list[int]] = defaultdict(list)
        self.every: defaultdict[str, int] = defaultdict(lambda: 1)

    def wants(self, group: str, position: int) -> bool:
        """Return whether a picture of the next image of `group` is to be kept, for now."""
        if group not in self.seen and len(self.seen) >= GROUPS:
            return False
        number = self.seen[group]
        self.seen[group] += 1
        if number % self.every[group]:
            return False
        self.kept[group].append(position)
        if len(self.kept[group]) >= 2 * EXAMPLES:  # too many: every second one
            self.kept[group] = self.kept[group][::2]
            self.every[group] *= 2
        return True


def _measured(workers: Workers, task: list[tuple[Item, bool]]) -> _Chunk:
    ones: list[_One | str] = []
    small = []
    for item, wanted in task:
        try:
            seen, file = item.look(workers, wanted)
        except NotAnImage as error:
            ones.append(str(error))
        except OSError as error:
            ones.append(f"cannot be read ({error.strerror or error})")
        else:
            small.append(seen.small)
            ones.append(_One(replace(seen, small=b""), file))
    stack = np.frombuffer(b"".join(small), np.uint8).reshape(-1, SIDE, SIDE, 3)
    brightness = stack @ LUMA
    thumbs = brightness.reshape(-1, THUMB, 2, THUMB, 2).mean((2, 4)).round().astype(np.uint8)
    return _Chunk(ones, thumbs, *perceptual_hashes(brightness))


NO_HASHES = np.zeros(0, np.uint64)


def _collected(names: list[str], chunks: list[_Chunk], keep: _Keep) -> Pictures:
    ones = [one for chunk in chunks for one in chunk.ones]
    good = [at for at, one in enumerate(ones) if not isinstance(one, str)]
    files = [one.file for one in ones if not isinstance(one, str)]
    seen = [one.seen for one in ones if not isinstance(one, str)]
    odd: defaultdict[str, list[int]] = defaultdict(list)
    for position, one in enumerate(seen):
        for name in one.odd:
            odd[name].append(position)
    kept = {position for group in keep.kept.values() for position in group}
    return Pictures(
        names=[names[at] for at in good],
        at=np.array(good, np.int64),
        files=np.array(files, "S16"),
        pixels=np.array([one.digest for one in seen], "S16"),
        hashes=np.concatenate([NO_HASHES, *(chunk.hashes for chunk in chunks)]),
        mirrored=np.concatenate([NO_HASHES, *(chunk.mirrored for chunk in chunks)]),
        thumbs=np.concatenate(
            [np.zeros((0, THUMB, THUMB), np.uint8), *(chunk.thumbs for chunk in chunks)]
        ),
        channels=1 if all(one.grey for one in seen) else 3,
        sizes=np.array([one.size for one in seen], np.int32).reshape(-1, 2),
        kinds=[one.kind for one in seen],
        odd=dict(odd),
        flat=[position for position, one in enumerate(seen) if one.flat],
        mean=np.array([one.mean for one in seen], np.float64).reshape(-1, 3),
        square=np.array([one.square for one in seen], np.float64).reshape(-1, 3),
        unreadable=[(at, names[at], one) for at, one in enumerate(ones) if isinstance(one, str)],
        previews={
            position: one.preview.pixels()
            for position, (at, one) in enumerate(zip(good, seen, strict=True))
            if one.preview is not None and at in kept
        },
    )
