"""`digits`: 6,000 images of MNIST that come with the package. No network, no other library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import torch

from pellucid.data.idx import read_idx
from pellucid.values import ImageSet, Loaded, Progress, no_progress

FOLDER = Path(__file__).parent / "embedded"


class Digits(
    msgspec.Struct, frozen=True, tag_field="name", tag="digits", forbid_unknown_fields=True
):
    """5,000 training and 1,000 test digits, grey, 28x28, balanced over the classes.

    Args:
        validation: share of the training images for validation, in [0, 1).
        relabel: a CSV file of corrected labels, such as the predictions/suspects.csv of a k-fold
            once a person has filled it in; the data itself is not changed.

    >>> loaded = Digits().load()
    >>> len(loaded.train), len(loaded.test), loaded.train.shape
    (5000, 1000, (1, 28, 28))
    """

    test: ClassVar[float] = 0.0
    validation: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1
    relabel: str | None = None

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return both parts."""
        del progress
        return Loaded(_part("train", "train"), test=_part("test", "t10k"), relabel=self.relabel)


def _part(name: str, stem: str) -> ImageSet:
    images = torch.from_numpy(read_idx(FOLDER / f"{stem}-images-idx3-ubyte.gz"))
    labels = torch.from_numpy(read_idx(FOLDER / f"{stem}-labels-idx1-ubyte.gz"))
    classes = tuple(str(digit) for digit in range(10))
    return ImageSet.of(images.unsqueeze(1), labels.long(), classes, f"digits/{name}")
