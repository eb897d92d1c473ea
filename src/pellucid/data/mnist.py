"""MNIST and Fashion-MNIST: four IDX files each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from pellucid.data.fetch import fetch
from pellucid.data.idx import read_idx
from pellucid.errors import BadData
from pellucid.values import ImageSet, Loaded, Progress

SIDE = 28
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class IdxSet(NamedTuple):
    """A set of four IDX files.

    Args:
        name: what a person calls it, and the folder that it lies in.
        alias: the folder that torchvision gives it, which has a folder `raw`.
        classes: names of the classes.
        mirrors: addresses that the names of the gzipped files are put behind.
        sha256: of the unpacked files, in the order of FILES; mirrors pack them differently.
    """

    name: str
    alias: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    sha256: tuple[str, ...]

    @property
    def layouts(self) -> str:
        """The layouts that `find` knows, for a person."""
        files = ", ".join(FILES)
        return f"{self.name}/ or {self.alias}/raw/, each with {files}, plain or with .gz"

    def find(self, root: Path, progress: Progress) -> Loaded | str:
        """Return the set below `root`, or what is missing there.

        Files that are there need no digest, only the right shapes: people bring subsets.

        Raises:
            BadData: if the files are there but damaged.
        """
        missing = f"no {self.name}/, no {self.alias}/raw/"
        for folder in (root / self.name, root / self.alias / "raw"):
            if folder.is_dir():
                paths = [_either(folder, file) for file in FILES]
                if None not in paths:
                    progress(f"reading {self.name}", 0, 1)
                    return self._read([path for path in paths if path])
                lacks = [file for file, path in zip(FILES, paths, strict=True) if path is None]
                missing = f"{folder} lacks {', '.join(lacks)}"
        return missing

    def download(self, root: Path, progress: Progress) -> None:
        """Bring the four files below `root`.

        Raises:
            DataNotFound: if no mirror brings one of them.
        """
        for file, sha256 in zip(FILES, self.sha256, strict=True):
            packed = f"{file}.gz"
            urls = [mirror + packed for mirror in self.mirrors]
            target = root / self.name / packed
            fetch(f"{self.name}/{packed}", urls, sha256, target, progress, gzipped=True)

    def _read(self, paths: list[Path]) -> Loaded:
        train = self._part("train", *paths[:2])
        return Loaded(train, test=self._part("test", *paths[2:]))

    def _part(self, part: str, images: Path, labels: Path) -> ImageSet:
        pixels, numbers = read_idx(images), read_idx(labels)
        if pixels.shape[1:] != (SIDE, SIDE):
            raise BadData(f"{images} holds the shape {pixels.shape}, not (N, {SIDE}, {SIDE}).")
        if numbers.shape != pixels.shape[:1]:
            raise BadData(
                f"{labels} holds the shape {numbers.shape}; {images.name} has {len(pixels)} images."
            )
        if not len(pixels) or numbers.max() >= len(self.classes):
            raise BadData(f"{labels} holds no labels, or labels that are not 0 to 9.")
        return ImageSet.of(
            torch.from_numpy(pixels).unsqueeze(1),  # (N, 1, 28, 28)
            torch.from_numpy(numbers).long(),
            self.classes,
            f"{self.name}/{part}",
        )


def _either(folder: Path, file: str) -> Path | None:
    """Return the file, plain or gzipped, or None. Some hand it round with a dot for a dash."""
    for name in (file, file.replace("-idx", ".idx")):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


MNIST = IdxSet(
    "mnist",
    "MNIST",
    tuple("0123456789"),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
FASHION = IdxSet(
    "fashion-mnist",
    "FashionMNIST",
    (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
