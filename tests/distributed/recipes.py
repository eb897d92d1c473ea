"""What the processes of these tests train, and what they compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid import Recipe, good, steps
from pellucid.augment.geometry import Crop, Flip
from pellucid.augment.mixing import MixUp
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.digits import Digits
from pellucid.engine import EngineSpec
from pellucid.models.mlp import MLPSpec
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.optim.schedules import PlateauSpec
from pellucid.optim.specs import SGD
from pellucid.plan import Duration
from pellucid.recipe import EMASpec, RecordSpec
from pellucid.runs.folder import Run
from pellucid.values import Loaded, Progress, no_progress


@dataclass(frozen=True)
class Few:
    """A few real digits: 36 to train on, 9 for validation, 20 for test."""

    validation: float = 0.2
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        loaded = Digits().load(progress)
        assert loaded.test is not None
        return Loaded(
            loaded.train.part(torch.arange(45)), test=loaded.test.part(torch.arange(0, 1000, 50))
        )


def plain(**changes: Any) -> Recipe:
    """Return a recipe of 12 steps without dropout and batch normalisation."""
    recipe = good("digits").with_(
        data=Few(), model=MLPSpec(hidden=(12,)),
        augment=AugmentSpec(flip=Flip(), crop=Crop(padding=2), mixup=MixUp()),
        length=steps(12), evaluate=Duration.parse("2 steps"), batch_size=10,
        record=RecordSpec(every=3, checkpoint=steps(1), keep=steps(1), snapshots=3),
        engine=EngineSpec(device="cpu", threads=1, timeout=60),
    )  # fmt: skip
    return recipe.with_(**changes)


EQUAL: dict[str, dict[str, Any]] = {
    "adamw": {},
    "all": {
        "optimizer": SGD(lr=0.05), "ema": EMASpec(decay=0.9), "max_grad_norm": 0.5,
        "schedule": PlateauSpec(factor=0.5, patience=0, threshold=0.2),
    },
    "convolutions": {"model": MnistCNNSpec(), "length": steps(4)},
    "nothing for one": {"batch_size": 17, "length": steps(6)},  # batches of 17, 17 and 2
}  # fmt: skip
"""Recipes by which two processes compute, bit for bit, what one does in twice as many pieces."""

OWN = {
    "batch norm": {"model": ResNetSpec(depth=8, width=4), "ema": EMASpec(decay=0.9)},
    "batch norm, nothing for one": {
        "model": ResNetSpec(depth=8, width=4), "batch_size": 17, "length": steps(6),
    },
    "pieces": {"accumulate": 2},
    "dropout": {"model": MLPSpec(hidden=(12,), dropout=0.3)},
}  # fmt: skip
"""Recipes by which they compute something of their own, the same on each."""


@dataclass(frozen=True)
class Forgetful:
    """A model with a state of its own that no process shares with the others."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Seeing(shape, classes)


class Seeing(nn.Module):
    seen: Tensor

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] ** 2, classes))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen += images.detach().mean()
        return self.layers(images)


@dataclass(frozen=True)
class Failing:
    """A model that fails on one process after some batches, or gives no numbers any more."""

    rank: int
    after: int
    numbers: bool = True

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Fails(shape, classes, self)


class Fails(Seeing):
    def __init__(self, shape: tuple[int, int, int], classes: int, spec: Failing) -> None:
        super().__init__(shape, classes)
        self.spec = spec
        self.batches = 0

    def forward(self, images: Tensor) -> Tensor:
        from pellucid.distributed.place import rank_here

        self.batches += self.training
        if rank_here() == self.spec.rank and self.batches > self.spec.after:
            if self.spec.numbers:
                raise ValueError("no more of this")
            return self.layers(images) * torch.nan
        return self.layers(images)


def content(run: Run) -> dict[str, bytes]:
    """Return what has to be equal byte for byte."""
    last = run.checkpoints.path(run.checkpoints.steps()[-1])
    paths = [*last.glob("*.safetensors"), *run.path.glob("predictions/*"), run.metrics]
    paths += [*run.path.glob("snapshots/*"), run.path / "split.csv"]
    return {str(path.relative_to(run.path)): path.read_bytes() for path in paths}


def only(runs: Path) -> Run:
    """Return the one run in a folder."""
    (path,) = [p for p in runs.iterdir() if p.is_dir() and not p.is_symlink()]
    return Run(path)
