"""Decoded images, kept between runs: decoding 60,000 small files takes seconds, reading them none.

    <cache>/decoded/<name>-<key>/images.u8       the pixels, (M, C, H, W)
                                 contents.json   files, labels, parts, what could not be read
                                 manifest.json   shape, stamp of the source, both SHA-256

The folder appears whole or not at all. What does not verify is decoded again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import filelock
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import BadData
from pellucid.values import Progress

FORMAT = 1
DAMAGED = "The decoded images in the cache were damaged; they were decoded again."
CHANGED = "The files changed since they were last decoded; they were decoded again."

Shape = tuple[int, int, int, int]

Sink = Callable[[NDArray[np.uint8]], None]
"""Takes the pixels of the next images, (K, C, H, W)."""


class Contents(msgspec.Struct, frozen=True):
    """Everything about decoded images but their pixels.

    Args:
        classes: names of the classes.
        files: M names.
        labels: M positions in `classes`.
        parts: M of `train`, `validation`, `test`.
        unreadable: positions of files whose pixels are blank, each with the reason.
        notes: what was chosen while decoding.
    """

    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[str, ...]
    unreadable: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()


class Decoded(NamedTuple):
    """Images uint8 (M, C, H, W), what is known of them, and what there is to say."""

    images: Tensor
    contents: Contents
    notes: tuple[str, ...]


Build = Callable[[Callable[[Shape], Sink]], Contents]
"""Decodes the images: opens a sink once the shape is known, and feeds it in order."""


class _Manifest(msgspec.Struct, frozen=True):
    format: int
    stamp: str
    shape: Shape
    images_sha256: str
    contents_sha256: str


def cache_folder() -> Path:
    """Return the folder for downloads and decoded images; it need not exist.

    PELLUCID_CACHE if set, else `$XDG_CACHE_HOME/pellucid`, else `~/.cache/pellucid`.
    """
    if named := os.environ.get("PELLUCID_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pellucid"


def decoded_images(
    name: str, key: str, stamp: str, build: Build, budget: float, progress: Progress
) -> Decoded:
    """Return the images of the cache, after building them where it has none that verify.

    Args:
        name: what a person calls the source.
        key: names the source, and the options that decide the pixels.
        stamp: changes when the source does.
        build: decodes the images.
        budget: bytes; larger sets are mapped from the file instead of read into memory.
        progress: told while waiting for another process.
    Raises:
        BadData: if the cache cannot be written and the images exceed the budget.
    """
    digest = hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()[:16]
    plain = "".join(letter if letter.isalnum() else "-" for letter in name)[:40]
    folder = cache_folder() / "decoded" / f"{plain}-{digest}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_suffix(".lock"), progress):
            found, why = _read(folder, stamp, budget)
            if found is None:
                _write(folder, stamp, build)
                found, _ = _read(folder, stamp, budget)
        if found is None:
            raise OSError(f"{folder} does not read back as it was written")
        return found._replace(notes=(why,) if why else ())
    except OSError as error:
        return _without_cache(folder, stamp, build, budget, error)


@contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0.1)
    except filelock.Timeout:
        progress("waiting for another process that decodes these images", 0, 1)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _read(folder: Path, stamp: str, budget: float) -> tuple[Decoded | None, str]:
    """Return the images in `folder`, or None and a note why they do not serve."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=_Manifest)
        if manifest.format != FORMAT:
            return None, ""
        if manifest.stamp != stamp:
            return None, CHANGED
        text = (folder / "contents.json").read_bytes()
        if hashlib.sha256(text).hexdigest() != manifest.contents_sha256:
            return None, DAMAGED
        contents = msgspec.json.decode(text, type=Contents)
        images = _pixels(folder / "images.u8", manifest, budget)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None, DAMAGED if folder.exists() else ""
    return (None, DAMAGED) if images is None else (Decoded(images, contents, ()), "")


def _pixels(path: Path, manifest: _Manifest, budget: float) -> Tensor | None:
    """Return the images in `path`, or None if they are not those of the manifest."""
    size = int(np.prod(manifest.shape, dtype=np.int64))
    if path.stat().st_size != size:
        return None
    if size > budget:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        # "c" (copy on write) gives a writable array, which torch wants, and never writes back.
        mapped = np.memmap(path, np.uint8, mode="c", shape=manifest.shape)
        return torch.from_numpy(mapped) if sha256 == manifest.images_sha256 else None
    images = torch.empty(manifest.shape, dtype=torch.uint8)
    space = images.view(-1).numpy().data
    with path.open("rb") as file:
        file.readinto(space)
    return images if hashlib.sha256(space).hexdigest() == manifest.images_sha256 else None


def _write(folder: Path, stamp: str, build: Build) -> None:
    """Decode into a folder beside `folder`, then put it into its place."""
    partial = folder.with_suffix(".partial")  # alone here: the lock is ours
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    hasher = hashlib.sha256()
    shapes: list[Shape] = []
    try:
        with (partial / "images.u8").open("wb") as file:

            def sink(pixels: NDArray[np.uint8]) -> None:
                content = np.ascontiguousarray(pixels).data
                file.write(content)
                hasher.update(content)

            def open_sink(shape: Shape) -> Sink:
                shapes.append(shape)
                return sink

            contents = build(open_sink)
            _sync(file)
        text = msgspec.json.encode(contents)
        _save(partial / "contents.json", text)
        sums = hasher.hexdigest(), hashlib.sha256(text).hexdigest()
        _save(
            partial / "manifest.json",
            msgspec.json.encode(_Manifest(FORMAT, stamp, shapes[0], *sums)),
        )
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _save(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        _sync(file)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _without_cache(
    folder: Path, stamp: str, build: Build, budget: float, error: OSError
) -> Decoded:
    """Read a cache that cannot be locked, or decode into memory."""
    with suppress(OSError):
        found, _ = _read(folder, stamp, budget)
        if found is not None:
            return found
    reason = error.strerror or str(error)
    held: list[Tensor] = []

    def open_sink(shape: Shape) -> Sink:
        size = int(np.prod(shape, dtype=np.int64))
        if size > budget:
            raise BadData(
                f"The decoded images take {size / 1e9:.2f} GB, the memory budget is "
                f"{budget / 1e9:.2f} GB (--data.memory), and the cache folder {cache_folder()} "
                f"cannot be written ({reason}). Name a folder with room by PELLUCID_CACHE, or "
                f"give more memory, or a smaller --data.size."
            )
        held.append(torch.empty(shape, dtype=torch.uint8))
        rest = held[0].numpy()

        def sink(pixels: NDArray[np.uint8]) -> None:
            nonlocal rest
            rest[: len(pixels)] = pixels
            rest = rest[len(pixels) :]

        return sink

    contents = build(open_sink)
    note = f"The cache folder {cache_folder()} cannot be written ({reason}), so nothing was kept."
    return Decoded(held[0], contents, (note,))
