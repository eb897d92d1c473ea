"""From image files with labels to image sets: what folders, tables and archives share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.data.cache import Contents, Shape, Sink, decoded_images
from pellucid.data.classes import PARTS, check_classes
from pellucid.data.decode import VERSION, Header, NotAnImage
from pellucid.data.listing import Found
from pellucid.data.workers import CHUNK, Workers
from pellucid.errors import UnreadableImages
from pellucid.values import ImageSet, Loaded, Progress

HEAD = 1 << 18
"""Bytes read to learn size and kind of an image; if they do not do, the whole file is."""
GIGABYTE = 1e9
MAX_FILE = 256 << 20
"""Bytes above which a file is no image of a size that is read: it is not read at all."""

T = TypeVar("T")


class ImageFiles(NamedTuple):
    """Image files with labels, of which none has been opened yet.

    Args:
        classes: names of the classes, also of those without files.
        files: M names, in order.
        labels: M positions in `classes`.
        parts: M of PARTS.
        read: called with a position and a number of bytes (-1: all), returns the file's content.
    """

    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[str, ...]
    read: Callable[[int, int], bytes]


def image_files(classes: tuple[str, ...], rows: Sequence[tuple[Found, str, str]]) -> ImageFiles:
    """Return the files of `rows` (file, class, part), to be read from the disk."""
    number = {name: label for label, name in enumerate(classes)}
    paths = [file.path for file, _, _ in rows]

    def read(index: int, size: int) -> bytes:
        return read_file(paths[index], size)

    return ImageFiles(
        classes,
        tuple(file.name for file, _, _ in rows),
        tuple(number[label] for _, label, _ in rows),
        tuple(part for _, _, part in rows),
        read,
    )


def read_file(path: str, size: int = -1) -> bytes:
    """Return the first `size` bytes of a file, or all.

    Raises:
        NotAnImage: if all are asked for and they are more than MAX_FILE.
        OSError: if the disk refuses.
    """
    with open(path, "rb") as file:
        content = file.read(size if size >= 0 else MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise NotAnImage(f"more than {MAX_FILE:,} bytes")
    return content


@dataclass(frozen=True)
class Source:
    """Where image files come from and what they are to become.

    Args:
        name: what a person calls the data, for example `flowers`.
        place: the folder, table or archive that was named.
        stamp: changes when the files do.
        listing: lists the files; not called when the cache has the images already.
        size: height and width, or 0 to choose by the images.
        channels: 1, 3, or 0 to choose by the images.
        memory: gigabytes that the decoded images may take in memory.
        skip_unreadable: True to go on without the files that are no images.
        notes: what was noticed while listing.
    """

    name: str
    place: str
    stamp: str
    listing: Callable[[], ImageFiles]
    size: int = 0
    channels: int = 0
    memory: float = 2.0
    skip_unreadable: bool = False
    notes: tuple[str, ...] = ()


def load_files(source: Source, progress: Progress) -> Loaded:
    """Return the images of `source`: decoded, cached, checked, as one set per part.

    The parts share one tensor. A skipped file keeps its row there, blank, in no part.

    Raises:
        UnreadableImages: if files are no images and are not to be skipped.
        BadData: if the classes cannot be learnt from, see `check_classes`.
    """
    key = f"{source.place}\0{source.size}\0{source.channels}\0{VERSION}"
    build = partial(_build, source, progress)
    budget = source.memory * GIGABYTE
    images, contents, notes = decoded_images(
        source.name, key, source.stamp, build, budget, progress
    )
    if contents.unreadable and not source.skip_unreadable:
        raise _unreadable(source, contents)
    notes = (*source.notes, *contents.notes, *notes)
    if contents.unreadable:
        total, bad = len(contents.files), len(contents.unreadable)
        notes += (f"{bad} of {total} files were skipped because they are not readable images.",)
    return _sets(source.name, images, contents, notes)


def _build(source: Source, progress: Progress, open_sink: Callable[[Shape], Sink]) -> Contents:
    with Workers() as workers:
        return _decoded(source, progress, open_sink, workers)


def _decoded(
    source: Source, progress: Progress, open_sink: Callable[[Shape], Sink], workers: Workers
) -> Contents:
    files = source.listing()
    check_classes(source.place, files.classes, files.labels, files.parts)
    size, channels = source.size, source.channels
    notes: tuple[str, ...] = ()
    if not (size and channels):
        look = partial(_probe, workers, files.read)
        headers = list(_in_order(workers, look, len(files.files), progress, "looking at"))
        size, channels, notes = _choose(source, [header for header in headers if header])
    sink = open_sink((len(files.files), channels, size, size))
    unreadable: list[tuple[int, str]] = []
    one = partial(_decode, workers, files.read, channels, size)
    decoded = _in_order(workers, one, len(files.files), progress, "decoding")
    for index, pixels in enumerate(decoded):
        if isinstance(pixels, str):
            unreadable.append((index, pixels))
            pixels = np.zeros((channels, size, size), np.uint8)
        sink(pixels[None])
    contents = Contents(*files[:4], tuple(unreadable), notes)
    if unreadable and not source.skip_unreadable:
        raise _unreadable(source, contents)  # not cached: the disk may do better next time
    return contents


def _in_order(
    workers: Workers, function: Callable[[int], T], count: int, progress: Progress, what: str
) -> Iterator[T]:
    """Yield `function(0)` to `function(count - 1)`, in order, and report how far this is."""
    for index, result in enumerate(workers.each(function, range(count))):
        if index % CHUNK == 0:
            progress(f"{what} images", index, count)
        yield result
    progress(f"{what} images", count, count)


def _probe(workers: Workers, read: Callable[[int, int], bytes], index: int) -> Header | None:
    for size in (HEAD, -1):
        try:
            return workers.probe(read(index, size))
        except (NotAnImage, OSError):
            continue
    return None  # the decoder will say why


def _decode(
    workers: Workers, read: Callable[[int, int], bytes], channels: int, size: int, index: int
) -> NDArray[np.uint8] | str:
    try:
        return workers.decode(read(index, -1), channels, size)
    except NotAnImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _choose(source: Source, headers: list[Header]) -> tuple[int, int, tuple[str, ...]]:
    """Return size and channels for images with these heads, and notes that say why."""
    notes = []
    size, channels = source.size, source.channels
    shapes = {header[:2] for header in headers}
    if not size:
        median = statistics.median_low([min(header[:2]) for header in headers] or [8])
        width, height = next(iter(shapes)) if len(shapes) == 1 else (0, 1)
        if width == height <= 64:
            size, why = width, f"all images are {width} x {width}"
        else:
            size = max(8, min(64, median // 8 * 8))
            why = f"the shorter sides have the median {median}"
        notes.append(f"Image size {size} was chosen ({why}); --data.size sets another.")
    oblong = sum(header.width != header.height for header in headers)
    if oblong:
        notes.append(f"{oblong} images are not square: their centred square is used.")
    grey = sum(header.grey for header in headers)
    if not channels:
        channels = 1 if headers and grey == len(headers) else 3
        if channels == 3 and grey:
            notes.append(f"{grey} of {len(headers)} images are grey; all become RGB.")
    if animated := sum(header.animated for header in headers):
        notes.append(f"{animated} images are animated: the first frame is used.")
    return size, channels, tuple(notes)


def _unreadable(source: Source, contents: Contents) -> UnreadableImages:
    bad = [(contents.files[index], reason) for index, reason in contents.unreadable]
    lines = "".join(f"\n  {file}: {reason}" for file, reason in bad[:10])
    more = f"\n  and {len(bad) - 10} more" if len(bad) > 10 else ""
    return UnreadableImages(
        f"{len(bad)} of {len(contents.files)} files in {source.place} are not readable images:"
        f"{lines}{more}\nRepair or remove them, or go on without them: --data.skip-unreadable.",
        bad,
    )


def _sets(name: str, images: Tensor, contents: Contents, notes: tuple[str, ...]) -> Loaded:
    bad = {index for index, _ in contents.unreadable}
    good = [index for index in range(len(contents.files)) if index not in bad]
    place = f"{name} (without the unreadable files)" if bad else name
    parts = [contents.parts[index] for index in good]
    check_classes(place, contents.classes, [contents.labels[index] for index in good], parts)
    labels = torch.tensor(contents.labels, dtype=torch.int64)
    sets: dict[str, ImageSet] = {}
    for part in PARTS:
        rows = [index for index, of in zip(good, parts, strict=True) if of == part]
        if rows:
            at = torch.tensor(rows, dtype=torch.int64)
            title = f"{name}/{part}"
            sets[part] = ImageSet(images, labels, contents.classes, title, at, contents.files)
    return Loaded(sets["train"], sets.get("validation"), sets.get("test"), notes)
