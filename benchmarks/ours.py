"""Our side of a contest: `pellucid.train` as a user calls it, with a clock beside it.

    python -m benchmarks.ours --data mnist --epochs 1 --limit 2000

runs it alone and prints its JSON line; `--prepare` writes what the peers get instead. It has
everything on: metrics, checkpoints, snapshots, log, tables of predictions, curves.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch

from benchmarks.arrays import Work, prepare
from benchmarks.cells import parser
from benchmarks.pairs import Row, digest, result, versions
from pellucid import epochs, notes, training
from pellucid.engine import EngineSpec
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
        self.losses: list[float] = []
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
        self.losses.append(step.loss.item())  # kept as tensors, they would pin freed memory
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
        losses=clock.losses,
        samples=clock.samples,
        seconds=ended[0] - clock.began,
        marks=clock.marks,
        first_step=clock.first_step,
        weights=(start, end),
        accuracy=accuracy,
    )


def first_step(recipe: Recipe) -> Row:
    """Train `recipe` for one step, everything on; return the row of the cell."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = training.train(recipe, folder, console=clock, stop=lambda step: True)
        start = digest(safetensors.torch.load_file(snapshots(run.path)[0]))
    return {
        "first_step": clock.first_step,
        "steps": len(clock.losses),
        "samples": clock.samples,
        "weights_start": start,
        "curve": [round(clock.losses[0], 5)],
        "versions": versions(),
    }


def recipe_of(work: Work, precision: Any) -> Recipe:
    """Return the textbook recipe of `work`."""
    recipe = notes(work.data).with_(
        length=epochs(work.epochs), engine=EngineSpec(precision=precision)
    )
    if work.augment:
        from benchmarks.augment_steps import CHAIN

        recipe = recipe.with_(augment=CHAIN)
    return limited(recipe, work.limit)


def _weights(run: Run) -> tuple[str, str]:
    """Return the digests of the weights before the first and after the last step."""
    copies = list(snapshots(run.path).values())
    first, last = (safetensors.torch.load_file(path) for path in (copies[0], copies[-1]))
    return digest(first), digest(last)


def main() -> None:
    """Run our cell, or write what the peers get."""
    words = parser()
    words.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    words.add_argument("--prepare", action="store_true")
    given = vars(words.parse_args())
    precision, only_prepare = given.pop("precision"), given.pop("prepare")
    work = Work(**given)
    if only_prepare:
        prepare(work)
        return
    recipe = recipe_of(work, precision)
    print(json.dumps(first_step(recipe) if work.first_step else train_ours(recipe)))


if __name__ == "__main__":
    main()
