"""CIFAR-10 and CIFAR-100 in the layouts that people have them in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pellucid.data.archive import read_archive
from pellucid.data.cifar_binary import read_batch, text
from pellucid.data.classes import check_classes, ordered
from pellucid.data.fetch import fetch
from pellucid.data.files import ImageFiles, Source, load_files
from pellucid.data.folder import Folder, folder_source
from pellucid.data.listing import found, stamp
from pellucid.errors import BadData
from pellucid.values import ImageSet, Loaded, Progress

SIDE = 32
MIRROR = "https://www.cs.toronto.edu/~kriz/"
IN_ARCHIVE = re.compile(r"(?:[^/]+/)?(train|test)/([^/]+)/([^/]+)")
JPEG_NOTE = (
    "These {name} images were compressed as JPEG: figures on them are not comparable with "
    "those on the original."
)


class CifarSet(NamedTuple):
    """CIFAR-10 or CIFAR-100.

    Args:
        name: what a person calls it.
        folder: the folder that the archive holds.
        archive: the original, binary form.
        train: files with training images.
        test: files with test images.
        meta: file with the names of the classes.
        labels: key of the labels.
        names: key of the names.
        sha256: of the archive.
    """

    name: str
    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str
    names: str
    sha256: str

    @property
    def layouts(self) -> str:
        """The layouts that `find` knows, for a person."""
        return (
            f"{self.folder}/, {self.archive}, {self.name}/ or {self.name}-jpg/ with "
            f"train/<class>/* and test/<class>/*, {self.name}-jpg.tar.gz with the same"
        )

    def find(self, root: Path, progress: Progress) -> Loaded | str:
        """Return the set below `root`, or what is missing there.

        Raises:
            BadData: if the files are there but damaged.
        """
        binary = _find_binary(root, self, progress)
        if not isinstance(binary, str):
            return binary
        pictures = _find_pictures(root, self.name, progress)
        return f"{binary}, {pictures}" if isinstance(pictures, str) else pictures

    def download(self, root: Path, progress: Progress) -> None:
        """Bring the original archive below `root`.

        Raises:
            DataNotFound: if it does not come.
        """
        urls = [MIRROR + self.archive]
        fetch(self.archive, urls, self.sha256, root / self.archive, progress)


CIFAR10 = CifarSet(
    "cifar10",
    "cifar-10-batches-py",
    "cifar-10-python.tar.gz",
    tuple(f"data_batch_{number}" for number in range(1, 6)),
    ("test_batch",),
    "batches.meta",
    "labels",
    "label_names",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
CIFAR100 = CifarSet(
    "cifar100",
    "cifar-100-python",
    "cifar-100-python.tar.gz",
    ("train",),
    ("test",),
    "meta",
    "fine_labels",
    "fine_label_names",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
)


def _find_binary(root: Path, form: CifarSet, progress: Progress) -> Loaded | str:
    folder, archive = root / form.folder, root / form.archive
    files = (*form.train, *form.test, form.meta)
    if folder.is_dir():
        if missing := [file for file in files if not (folder / file).is_file()]:
            return f"{form.folder}/ lacks {', '.join(missing)}"
        contents = {file: (folder / file).read_bytes() for file in files}
    elif archive.is_file():
        progress(f"unpacking {form.archive} in memory", 0, 1)
        members = ((Path(name).name, content) for name, content in read_archive(archive))
        contents = {name: content for name, content in members if name in files}
        if missing := [file for file in files if file not in contents]:
            raise BadData(f"{archive} lacks {', '.join(missing)}.")
        folder = archive
    else:
        return f"no {form.folder}/, no {form.archive}"
    meta = read_batch(contents[form.meta], f"{folder}/{form.meta}")
    classes = tuple(text(label) for label in meta.get(form.names, ()))
    sets = []
    for part, names in (("train", form.train), ("test", form.test)):
        batches = [_batch(contents.pop(file), f"{folder}/{file}", form, classes) for file in names]
        labels = [label for batch in batches for label in batch.labels]
        shown = tuple(file for batch in batches for file in batch.files)
        sets.append(
            ImageSet.of(
                torch.from_numpy(np.concatenate([batch.pixels for batch in batches])),
                torch.tensor(labels, dtype=torch.int64),
                classes,
                f"{form.name}/{part}",
                shown if len(shown) == len(labels) else (),
            )
        )
    return Loaded(sets[0], test=sets[1])


class _Batch(NamedTuple):
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    labels: list[int]
    files: list[str]


def _batch(content: bytes, where: str, form: CifarSet, classes: tuple[str, ...]) -> _Batch:
    batch = read_batch(content, where)
    pixels, labels = batch.get("data"), batch.get(form.labels)
    if not isinstance(pixels, np.ndarray) or pixels.shape[1:] != (3 * SIDE * SIDE,):
        raise BadData(f"{where} is damaged: its data is no array of shape (N, {3 * SIDE * SIDE}).")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise BadData(f"{where} is damaged: {len(pixels)} images without as many {form.labels}.")
    if not all(isinstance(label, int) and 0 <= label < len(classes) for label in labels):
        raise BadData(f"{where} is damaged: {form.labels} are not all in [0, {len(classes)}).")
    files = [text(file) for file in batch.get("filenames", [])]
    return _Batch(pixels.reshape(-1, 3, SIDE, SIDE), labels, files)


def _find_pictures(root: Path, name: str, progress: Progress) -> Loaded | str:
    for folder in (root / name, root / f"{name}-jpg"):
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            source = folder_source(Folder(str(folder), size=SIDE), name, 3, progress)
            return _noted(load_files(source, progress), name)
    archive = root / f"{name}-jpg.tar.gz"
    if not archive.is_file():
        return f"no {name}/, no {name}-jpg/, no {archive.name}"
    status = found(archive.name, str(archive), archive.stat())
    source = Source(
        name=name,
        place=str(archive.resolve()),
        stamp=stamp([(status, "", "")]),
        listing=lambda: _archived(archive, progress),
        size=SIDE,
        channels=3,
    )
    return _noted(load_files(source, progress), name)


def _archived(archive: Path, progress: Progress) -> ImageFiles:
    progress(f"unpacking {archive.name} in memory", 0, 1)
    contents: dict[str, tuple[str, str, bytes]] = {}
    for part, label, file, content in _members(archive):
        contents[f"{part}/{label}/{file}"] = (part, label, content)
    files = tuple(sorted(contents, key=str.encode))
    classes = ordered(label for _, label, _ in contents.values())
    number = {label: position for position, label in enumerate(classes)}
    parts = tuple(contents[file][0] for file in files)
    labels = tuple(number[contents[file][1]] for file in files)
    check_classes(str(archive), classes, labels, parts)

    def read(index: int, size: int) -> bytes:
        content = contents[files[index]][2]
        return content if size < 0 else content[:size]

    return ImageFiles(classes, files, labels, parts, read)


def _members(archive: Path) -> Iterator[tuple[str, str, str, bytes]]:
    for member, content in read_archive(archive):
        if match := IN_ARCHIVE.fullmatch(member):
            yield match[1], match[2], match[3], content


def _noted(loaded: Loaded, name: str) -> Loaded:
    if not all(file.lower().endswith((".jpg", ".jpeg")) for file in loaded.train.files[:100]):
        return loaded
    notes = (*loaded.notes, JPEG_NOTE.format(name=name))
    return Loaded(loaded.train, loaded.validation, loaded.test, notes)
