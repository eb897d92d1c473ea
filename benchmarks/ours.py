"""Our side of a contest: `pellucid.train` as a user calls it, with a clock beside it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from pairs import Row, digest, result
from torch import Tensor

from pellucid import training
from pellucid.recipe import Recipe
from pellucid.runs.folder import Run
from pellucid.runs.snapshots import snapshots
from pellucid.sinks.console import Console
from pellucid.values import DataSource, ImageSet, Loaded, Progress, Step, no_progress


@dataclass(frozen=True)
class Limited:
    """The first part of a data set, spread evenly over it: for trying a benchmark out."""

    source: DataSource
    count: int
    validation: float = 0.1
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return at most `count` training images, and at most as many to test on."""
        loaded = self.source.load(progress)
        assert loaded.test is not None
        return Loaded(self._some(loaded.train), test=self._some(loaded.test))

    def _some(self, data: ImageSet) -> ImageSet:
        count = min(self.count, len(data))
        return data.part(torch.arange(count) * len(data) // count)


def limited(recipe: Recipe, count: int) -> Recipe:
    """Return `recipe` on at most `count` images; 0 leaves it as it is."""
    return recipe.with_(data=Limited(recipe.data, count)) if count else recipe


class Clock(Console):
    """The console of the command line, which also notes the time of what it is told."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.losses: list[Tensor] = []
        self.marks: list[float] = []
        self.samples = 0
        self.began = self.first_step = 0.0

    def line(self, text: str = "") -> None:
        """Write one line; the last one before the first step starts the clock."""
        super().line(text)
        if not self.losses:
            self.began = time.monotonic()

    def step(self, step: Step, rows: Sequence[dict[str, Any]], steps: int, epochs: int) -> None:
        """Show one step, and note it."""
        super().step(step, rows, steps, epochs)
        if not self.losses:
            self.first_step = time.monotonic()
        self.losses.append(step.loss)
        self.samples += step.size
        if step.evaluation:
            self.marks.append(time.monotonic())


def train_ours(recipe: Recipe) -> Row:
    """Train `recipe`, everything on; return the row of the cell.

    The training clock runs from before the copy of the initial weights is written until the last
    checkpoint lies on the disk.
    """
    clock, ended, finish = Clock(), [], training.finish

    def at_end(*given: Any) -> Any:
        ended.append(time.monotonic())
        return finish(*given)

    training.finish = at_end
    with tempfile.TemporaryDirectory() as folder:
        run = training.train(recipe, folder, console=clock)
        start, end = _weights(run)
        accuracy = (run.summary() or {})["test"]["accuracy"]
    return result(
        losses=torch.stack(clock.losses).tolist(),
        samples=clock.samples,
        seconds=ended[0] - clock.began,
        marks=clock.marks,
        first_step=clock.first_step,
        weights=(start, end),
        accuracy=accuracy,
    )


def _weights(run: Run) -> tuple[str, str]:
    """Return the digests of the weights before the first and after the last step."""
    copies = list(snapshots(run.path).values())
    first, last = (safetensors.torch.load_file(path) for path in (copies[0], copies[-1]))
    return digest(first), digest(last)
