"""The values that flow between the parts: image sets, batches, steps, evaluations."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Progress = Callable[[str, int, int], None]
"""Called as `progress(what, done, total)` while something long is under way."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one part of the data, as positions in one uint8 tensor.

    Parts of the same data share `images`, `labels` and `files`; `rows` says which of them
    belong to this part. So a split copies no pixels, and the tensor may be memory-mapped.

    Args:
        images: uint8 (M, C, H, W), C is 1 or 3.
        labels: int64 (M,), positions in `classes`.
        classes: names of the classes.
        name: what a person calls this set, for example `mnist/train`.
        rows: int64 (N,), the positions in `images` that belong to this part.
        files: M names, one per image; empty when the images have none.
        groups: int64 (M,): images of one group, such as those of one patient, are kept together
            when a part is split off; None where the data names no groups.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    rows: Tensor
    files: tuple[str, ...] = ()
    groups: Tensor | None = None

    @classmethod
    def of(
        cls,
        images: Tensor,
        labels: Tensor,
        classes: tuple[str, ...],
        name: str,
        files: tuple[str, ...] = (),
    ) -> ImageSet:
        """Return the set of all `images`."""
        return cls(images, labels, classes, name, torch.arange(len(images)), files)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def targets(self) -> Tensor:
        """The labels of this part, int64 (N,)."""
        return self.labels[self.rows]

    @property
    def group_ids(self) -> Tensor | None:
        """The groups of this part, int64 (N,), or None."""
        return None if self.groups is None else self.groups[self.rows]

    def part(self, index: Tensor, name: str | None = None) -> ImageSet:
        """Return the part at positions `index` (K,) of this set."""
        return replace(self, rows=self.rows[index], name=name or self.name)

    def pixels(self, index: Tensor) -> Tensor:
        """Return the images at positions `index` (K,), uint8 (K, C, H, W)."""
        return self.images[self.rows[index]]

    def label(self, index: Tensor) -> Tensor:
        """Return the labels at positions `index` (K,), int64 (K,)."""
        return self.labels[self.rows[index]]

    def digest(self) -> str:
        """Return the SHA-256 of classes, labels and pixels, in order.

        Not of names or places: a folder may move without becoming other data.
        """
        total = hashlib.sha256("\n".join(self.classes).encode())
        total.update(self.targets.numpy().tobytes())
        for index in torch.arange(len(self)).split(1000):
            total.update(self.pixels(index).numpy().tobytes())
        return total.hexdigest()

    def file(self, index: int) -> str:
        """Return the file name of the image at position `index`, or an empty text."""
        return self.files[int(self.rows[index])] if self.files else ""

    def describe(self, index: int) -> str:
        """Return what a person needs to find the image at position `index`."""
        return self.file(index) or f"{self.name}[{int(self.rows[index])}]"


@dataclass(frozen=True)
class Loaded:
    """What a source of data brings, before anything is split off.

    Args:
        train: the images to train on (and to split from).
        validation: the data's own validation part, or None.
        test: the data's own test part, or None.
        notes: sentences for the user: what was chosen, skipped or noticed.
        random: True if reading the data drew random numbers, so that it cannot be repeated.
        relabel: a table of corrected labels, to be used once the parts are drawn; or None.
    """

    train: ImageSet
    validation: ImageSet | None = None
    test: ImageSet | None = None
    notes: tuple[str, ...] = ()
    random: bool = False
    relabel: str | None = None


@dataclass(frozen=True)
class Relabelled:
    """What a table of corrected labels did.

    Args:
        file: the table.
        sha256: of its bytes.
        changed: labels that were changed, in the training and in the validation part.
        left_out: images that were left out, likewise.
    """

    file: str
    sha256: str
    changed: tuple[int, ...]
    left_out: tuple[int, ...]

    @property
    def note(self) -> str:
        """What was done, for a person."""
        (train, held), (no_train, no_held) = self.changed, self.left_out
        return (
            f"labels corrected by {self.file}: {train:,} of training, {held:,} of validation "
            f"images; left out: {no_train:,} and {no_held:,}"
        )


@dataclass(frozen=True)
class Splits:
    """The three parts. Validation is never test; a part that is off is an empty set."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()
    random: bool = False
    relabelled: Relabelled | None = None

    @functools.cached_property
    def digest(self) -> str:
        """Return the SHA-256 over the digests of the three parts."""
        parts = (self.train, self.validation, self.test)
        return hashlib.sha256("".join(part.digest() for part in parts).encode()).hexdigest()


class DataSource(Protocol):
    """A value in a recipe that can fetch its images."""

    @property
    def validation(self) -> float:
        """The share of the training images that becomes validation, in [0, 1)."""

    @property
    def test(self) -> float:
        """The share that becomes the test part where the data brings none, in [0, 1)."""

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images of all parts that the data brings."""


class FoldRule(Protocol):
    """Which of several folds of the training images is held out for validation."""

    @property
    def count(self) -> int:
        """The number of folds."""

    @property
    def index(self) -> int:
        """The fold that is held out, from 0."""

    def held_out(self, labels: Tensor, groups: Tensor | None, seed: int) -> Tensor:
        """Return whether each image, with `labels` (N,), is held out, bool (N,)."""


@dataclass(frozen=True)
class Batch:
    """One piece of a step.

    Args:
        images: (B, C, H, W), uint8 as stored, then float once it is prepared.
        targets: (B,) int64, or (B, K) float when soft.
        index: (B,) positions in the training set, so that a report can show the very images.
        rows: (B,) positions in the step's global batch; augmentation takes its draws by them.
        size: number of images of the whole global batch.
        epoch: that shows them, from 0; where images are shown in rounds, the round.
    """

    images: Tensor
    targets: Tensor
    index: Tensor
    rows: Tensor
    size: int
    epoch: int = 0

    @property
    def share(self) -> float:
        """The fraction of the step's images that this piece holds, in (0, 1]."""
        return len(self.index) / self.size

    def with_images(self, images: Tensor) -> Batch:
        """Return this batch with other `images`."""
        return replace(self, images=images)

    def to(self, device: torch.device) -> Batch:
        """Return this batch with images and targets on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
        )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about a set of images: a table, of which every metric is a function.

    Args:
        logits: float32 (N, K), on the CPU.
        targets: int64 (N,).
        index: int64 (N,), positions in the set.
        classes: K names.
    """

    logits: Tensor
    targets: Tensor
    index: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labels(self) -> Tensor:
        """The predicted classes, int64 (N,); the first of equals."""
        return self.logits.argmax(1)


@dataclass(frozen=True)
class Metrics:
    """Loss and accuracy with the number of images they rest on.

    Args:
        loss: mean cross-entropy in nats; nan if `n` is 0.
        correct: number of right predictions.
        n: number of images.
    """

    loss: float
    correct: int
    n: int

    @property
    def accuracy(self) -> float:
        """Share of right predictions in [0, 1]; nan if there are none to judge."""
        return self.correct / self.n if self.n else float("nan")


@dataclass(frozen=True)
class Evaluation:
    """A look at the model in eval mode, without augmentation.

    Args:
        train: on a fixed sample of the training images.
        validation: on the validation images; `n` is 0 when there are none.
    """

    train: Metrics
    validation: Metrics


@dataclass(frozen=True)
class Step:
    """What one optimizer step did. The one event of the loop.

    Args:
        index: number of steps done, this one included; from 1.
        epoch: number of epochs begun, from 1.
        loss: mean training loss of the step's images, by the weights before the update; a 0-d
            tensor on the device.
        size: number of images of the step.
        lr: the learning rate of the step.
        grad_norm: norm of the gradient before clipping, a 0-d tensor on the device.
        evaluation: set when the model was judged after this step.
    """

    index: int
    epoch: int
    loss: Tensor
    size: int
    lr: float
    grad_norm: Tensor
    evaluation: Evaluation | None = None


class Pieces(Protocol):
    """The training data as the loop sees it."""

    def index(self, step: int) -> Tensor:
        """Return the positions of the images in the batch of `step`, int64 (B,)."""

    def pieces(self, step: int) -> Iterator[Batch]:
        """Yield the pieces of the batch of `step`."""


Augment = Callable[[Batch, int], Batch]
Mode = Callable[[nn.Module, int], None]
Loss = Callable[[Tensor, Tensor], Tensor]
Schedule = Callable[[int], float]


class PlateauRule(Protocol):
    """Cuts the learning rate by what validation shows, or does nothing."""

    def lower(self, lr: float) -> float:
        """Return the rate after the cuts so far."""

    def offer(self, metrics: Metrics) -> None:
        """Take note of one evaluation on validation images."""

    def facts(self) -> dict[str, Any]:
        """Return the counters, as plain values for JSON."""

    def load(self, facts: dict[str, Any]) -> None:
        """Take over what `facts` returned."""


class StopRule(Protocol):
    """Ends a run early by what validation shows, or never."""

    @property
    def now(self) -> bool:
        """Whether the run is to end."""

    def offer(self, metrics: Metrics) -> None:
        """Take note of one evaluation on validation images."""

    def facts(self) -> dict[str, Any]:
        """Return the counters, as plain values for JSON."""

    def load(self, facts: dict[str, Any]) -> None:
        """Take over what `facts` returned."""


@runtime_checkable
class Staged(Protocol):
    """A network with a pretrained part, the backbone, which trains later and at a lower rate.

    Attributes:
        freeze_epochs: epochs in which only the head trains.
        backbone_lr: factor on the learning rate of the backbone, above 0.
    """

    freeze_epochs: float
    backbone_lr: float

    def backbone(self) -> Sequence[nn.Module]:
        """Return the modules of the pretrained part."""

    def head(self) -> nn.Module:
        """Return the new last part."""
