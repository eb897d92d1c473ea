"""The sets that everyone knows: found where they lie, else downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from pellucid.data.cache import cache_folder
from pellucid.data.cifar import CIFAR10, CIFAR100, Binary, find_binary, find_pictures
from pellucid.data.fetch import fetch
from pellucid.data.folder import Share
from pellucid.data.idx import read_idx
from pellucid.errors import BadData, DataNotFound
from pellucid.values import ImageSet, Loaded, Progress, no_progress

Find = Callable[[Path], Loaded | str]
"""Returns the set below a folder, or what is missing there."""

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
IDX_LAYOUT = "{} with " + ", ".join(IDX_FILES) + ", plain or with .gz"
DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FASHION_MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
CIFAR_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)

# Of the unpacked files, in the order of IDX_FILES: mirrors pack them differently.
MNIST_SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FASHION_SHA256 = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CIFAR100_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"


class Mnist(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="mnist", tag_field="name"):
    """MNIST: 60,000 + 10,000 handwritten digits, grey, 28 x 28.

    Yann LeCun, Corinna Cortes and Christopher Burges; CC BY-SA 3.0.

    Args:
        root: a folder with `mnist/` or `MNIST/raw/`. If empty: PELLUCID_DATA, then the cache,
            then the network.
        validation: share of the training images that becomes validation.
    """

    root: str = ""
    validation: Share = 0.1

    @property
    def test(self) -> float:
        """0: the set brings its own test images."""
        return 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, 1, 28, 28).

        Raises:
            DataNotFound: saying where was looked and what to do.
            BadData: if files are there but damaged.
        """
        return _idx_set(
            "mnist", "MNIST", self.root, DIGITS, MNIST_MIRRORS, MNIST_SHA256, progress
        )


class FashionMnist(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="fashion-mnist", tag_field="name"
):
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, grey, 28 x 28.

    Zalando Research, https://github.com/zalandoresearch/fashion-mnist; MIT.

    Args:
        root: a folder with `fashion-mnist/` or `FashionMNIST/raw/`. If empty: PELLUCID_DATA, then
            the cache, then the network.
        validation: share of the training images that becomes validation.
    """

    root: str = ""
    validation: Share = 0.1

    @property
    def test(self) -> float:
        """0: the set brings its own test images."""
        return 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, 1, 28, 28).

        Raises:
            DataNotFound: saying where was looked and what to do.
            BadData: if files are there but damaged.
        """
        return _idx_set(
            "fashion-mnist",
            "FashionMNIST",
            self.root,
            CLOTHES,
            FASHION_MIRRORS,
            FASHION_SHA256,
            progress,
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
    """

    root: str = ""
    validation: Share = 0.1

    @property
    def test(self) -> float:
        """0: the set brings its own test images."""
        return 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, 3, 32, 32).

        Raises:
            DataNotFound: saying where was looked and what to do.
            BadData: if files are there but damaged.
        """
        return _cifar_set("cifar10", self.root, CIFAR10, CIFAR10_SHA256, progress)


class Cifar100(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="cifar100", tag_field="name"
):
    """CIFAR-100: 50,000 + 10,000 photos of 100 kinds of things (fine labels), RGB, 32 x 32.

    Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        root: a folder with `cifar-100-python/` or `cifar-100-python.tar.gz`, or an image folder as
            for CIFAR-10. If empty: PELLUCID_DATA, then the cache, then the network.
        validation: share of the training images that becomes validation.
    """

    root: str = ""
    validation: Share = 0.1

    @property
    def test(self) -> float:
        """0: the set brings its own test images."""
        return 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, 3, 32, 32).

        Raises:
            DataNotFound: saying where was looked and what to do.
            BadData: if files are there but damaged.
        """
        return _cifar_set("cifar100", self.root, CIFAR100, CIFAR100_SHA256, progress)
