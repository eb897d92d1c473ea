"""The sets that everyone knows: found where they lie, else downloaded."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from pellucid.data import cifar, mnist
from pellucid.data.cache import cache_folder
from pellucid.data.folder import Share
from pellucid.errors import DataNotFound
from pellucid.values import Loaded, Progress, no_progress


class Known(Protocol):
    """What is known of a set: its layouts, and where it can be had."""

    @property
    def layouts(self) -> str:
        """The layouts that `find` knows, for a person."""

    def find(self, root: Path, progress: Progress) -> Loaded | str:
        """Return the set below `root`, or what is missing there."""

    def download(self, root: Path, progress: Progress) -> None:
        """Bring the set below `root`, in a layout that `find` knows, or raise DataNotFound."""


def locate(name: str, root: str, known: Known, progress: Progress) -> Loaded:
    """Return the set `known`: from `root` if given, else PELLUCID_DATA, the cache, the network.

    Raises:
        DataNotFound: saying where was looked, what the network said, and the ways out.
        BadData: if files are there but damaged. Other places are then not tried: a set that
            silently comes from elsewhere would surprise more.
    """
    downloads = cache_folder() / "data"
    shared = os.environ.get("PELLUCID_DATA")
    places = [root] if root else [shared, str(downloads)] if shared else [str(downloads)]
    looked = ""
    for place in places:
        found = known.find(Path(place).expanduser(), progress)
        if isinstance(found, Loaded):
            return found
        looked += f"\n  {place}: {found}"
    layouts = f"one of these layouts: {known.layouts}"
    if root:
        raise DataNotFound(f"There is no {name} in --data.root:{looked}\nIt may lie in {layouts}.")
    try:
        known.download(downloads, progress)
    except DataNotFound as error:
        raise DataNotFound(
            f"{name} was not found, and could not be downloaded. Looked in:{looked}\n{error}\n"
            f"Ways out:\n"
            f"  1. name a folder by --data.root or PELLUCID_DATA that has it in {layouts}\n"
            f"  2. connect to the network, or put the files into {downloads} by hand, likewise\n"
            f"  3. pellucid train digits: these images come with pellucid"
        ) from None
    found = known.find(downloads, progress)
    if isinstance(found, str):
        raise DataNotFound(f"{name} was downloaded to {downloads}, and is not there: {found}.")
    return found


class Mnist(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="mnist", tag_field="name"):
    """MNIST: 60,000 + 10,000 handwritten digits, grey, 28 x 28.

    Yann LeCun, Corinna Cortes and Christopher Burges; CC BY-SA 3.0.

    Args:
        root: a folder with `mnist/` or `MNIST/raw/`. If empty: PELLUCID_DATA, then the cache,
            then the network.
        validation: share of the training images that becomes validation.
        relabel: a CSV file of corrected labels, such as the predictions/suspects.csv of a k-fold
            once a person has filled it in; the data itself is not changed.
    """

    test: ClassVar[float] = 0.0  # each brings its own test images
    root: str = ""
    validation: Share = 0.1
    relabel: str | None = None

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, 1, 28, 28).

        Raises:
            DataNotFound: saying where was looked and what to do.
            BadData: if files are there but damaged.
        """
        return replace(locate("mnist", self.root, mnist.MNIST, progress), relabel=self.relabel)


class FashionMnist(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="fashion-mnist", tag_field="name"
):
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, grey, 28 x 28.

    Zalando Research, https://github.com/zalandoresearch/fashion-mnist; MIT.

    Args:
        root: a folder with `fashion-mnist/` or `FashionMNIST/raw/`. If empty: PELLUCID_DATA, then
            the cache, then the network.
        validation: share of the training images that becomes validation.
        relabel: a CSV file of corrected labels, such as the predictions/suspects.csv of a k-fold
            once a person has filled it in; the data itself is not changed.
    """

    test: ClassVar[float] = 0.0  # each brings its own test images
    root: str = ""
    validation: Share = 0.1
    relabel: str | None = None

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, 1, 28, 28).

        Raises:
            DataNotFound: saying where was looked and what to do.
            BadData: if files are there but damaged.
        """
        return replace(
            locate("fashion-mnist", self.root, mnist.FASHION, progress), relabel=self.relabel
        )


class Cifar10(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="cifar10", tag_field="name"
):
    """CIFAR-10: 50,000 + 10,000 photos of 10 kinds of things, RGB, 32 x 32.

    Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        root: a folder with `cifar-10-batches-py/`, `cifar-10-python.tar.gz`, an image folder
            `cifar10/` or `cifar10-jpg/`, or `cifar10-jpg.tar.gz`. If empty: PELLUCID_DATA, then
            the cache, then the network.
        validation: share of the training images that becomes validation.
        relabel: a CSV file of corrected labels, such as the predictions/suspects.csv of a k-fold
            once a person has filled it in; the data itself is not changed.
    """

    test: ClassVar[float] = 0.0  # each brings its own test images
    root: str = ""
    validation: Share = 0.1
    relabel: str | None = None

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, 3, 32, 32).

        Raises:
            DataNotFound: saying where was looked and what to do.
            BadData: if files are there but damaged.
        """
        return replace(locate("cifar10", self.root, cifar.CIFAR10, progress), relabel=self.relabel)


class Cifar100(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="cifar100", tag_field="name"
):
    """CIFAR-100: 50,000 + 10,000 photos of 100 kinds of things (fine labels), RGB, 32 x 32.

    Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        root: a folder with `cifar-100-python/` or `cifar-100-python.tar.gz`, or an image folder as
            for CIFAR-10. If empty: PELLUCID_DATA, then the cache, then the network.
        validation: share of the training images that becomes validation.
        relabel: a CSV file of corrected labels, such as the predictions/suspects.csv of a k-fold
            once a person has filled it in; the data itself is not changed.
    """

    test: ClassVar[float] = 0.0  # each brings its own test images
    root: str = ""
    validation: Share = 0.1
    relabel: str | None = None

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, 3, 32, 32).

        Raises:
            DataNotFound: saying where was looked and what to do.
            BadData: if files are there but damaged.
        """
        return replace(
            locate("cifar100", self.root, cifar.CIFAR100, progress), relabel=self.relabel
        )
