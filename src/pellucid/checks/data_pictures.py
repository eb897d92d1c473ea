"""The one pass of a data check over all images: each is read once, decoded once, and measured."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.checks.data_near import SIDE, THUMB, perceptual_hashes
from pellucid.data.decode import NotAnImage, Picture
from pellucid.data.files import in_order
from pellucid.values import Progress

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 64
"""Images per task of the thread pool, unless they take more than HELD bytes."""
HELD = 8 << 20
EXAMPLES = 8
"""Pictures of a class that are kept to be shown."""
GROUPS = 48
"""Groups of which pictures are kept: bounds the memory."""
PREVIEW = 96
"""Pictures that are kept have at most this many pixels a side."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R 601."""


class Item(NamedTuple):
    """An image that has not been read yet.

    Args:
        name: what a person calls it.
        group: images of one group get their pictures spread evenly over it.
        look: reads and decodes; returns the picture, and a digest of its file or nothing.
        held: bytes that `look` keeps in memory.
    """

    name: str
    group: str
    look: Callable[[], tuple[Picture, bytes]]
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
    """What was measured of one image."""

    file: bytes
    pixels: bytes
    size: tuple[int, int]
    kind: str
    odd: tuple[str, ...]
    flat: bool
    grey: bool
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    preview: NDArray[np.uint8] | None


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
    for chunk in in_order(_measured, tasks):
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


def _measured(task: list[tuple[Item, bool]]) -> _Chunk:
    ones: list[_One | str] = []
    small = []
    for item, wanted in task:
        try:
            picture, file = item.look()
        except NotAnImage as error:
            ones.append(str(error))
            continue
        except OSError as error:
            ones.append(f"cannot be read ({error.strerror or error})")
            continue
        fitted = _small(picture.image)
        small.append(fitted)
        ones.append(_one(picture, file, wanted, bool((fitted == fitted[..., :1]).all())))
    stack = np.array(small, np.uint8).reshape(-1, SIDE, SIDE, 3)
    brightness = stack @ LUMA
    thumbs = brightness.reshape(-1, THUMB, 2, THUMB, 2).mean((2, 4)).round().astype(np.uint8)
    return _Chunk(ones, thumbs, *perceptual_hashes(brightness))


def _small(image: Image.Image) -> NDArray[np.uint8]:
    """Return the whole image as uint8 (32, 32, 3), squeezed into a square."""
    from PIL.Image import Resampling

    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Resampling.BILINEAR, reducing_gap=3.0)
    pixels = np.asarray(image)
    return np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels


def _one(picture: Picture, file: bytes, wanted: bool, looks_grey: bool) -> _One:
    image = picture.image
    pixels = np.asarray(image)
    if pixels.ndim == 3 and looks_grey and bool((pixels == pixels[..., :1]).all()):
        pixels = pixels[..., 0]  # a grey picture is the same one, stored as grey or as RGB
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    counts = np.array(image.histogram(), np.float64).reshape(-1, 256)
    share = counts / counts.sum(1, keepdims=True)
    return _One(
        file,
        digest.digest(),
        picture.size,
        picture.kind,
        picture.odd,
        bool(((counts > 0).sum(1) == 1).all()),
        pixels.ndim == 2,
        np.broadcast_to(share @ LEVELS, 3),
        np.broadcast_to(share @ LEVELS**2, 3),
        _preview(image) if wanted else None,
    )


LEVELS = np.arange(256) / 255
NO_HASHES = np.zeros(0, np.uint64)


def _preview(image: Image.Image) -> NDArray[np.uint8]:
    if max(image.size) > PREVIEW:
        image = image.copy()
        image.thumbnail((PREVIEW, PREVIEW))
    return np.array(image.convert("RGB"))


def _collected(names: list[str], chunks: list[_Chunk], keep: _Keep) -> Pictures:
    ones = [one for chunk in chunks for one in chunk.ones]
    good = [at for at, one in enumerate(ones) if not isinstance(one, str)]
    seen = [one for one in ones if not isinstance(one, str)]
    odd: defaultdict[str, list[int]] = defaultdict(list)
    for position, one in enumerate(seen):
        for name in one.odd:
            odd[name].append(position)
    kept = {position for group in keep.kept.values() for position in group}
    return Pictures(
        names=[names[at] for at in good],
        at=np.array(good, np.int64),
        files=np.array([one.file for one in seen], "S16"),
        pixels=np.array([one.pixels for one in seen], "S16"),
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
            position: one.preview
            for position, (at, one) in enumerate(zip(good, seen, strict=True))
            if one.preview is not None and at in kept
        },
    )
