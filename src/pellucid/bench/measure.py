"""All of `pellucid bench`: the machine, a step of the recipe, and settings that were tried."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pellucid.assemble import assemble
from pellucid.bench.clocked import StepTimes, step_times
from pellucid.bench.proposals import (
    Candidate,
    Trial,
    candidates,
    kept_threads,
    proposals,
    tried,
)  # fmt: skip
from pellucid.bench.yardsticks import Yardstick, yardsticks
from pellucid.engine import Engine
from pellucid.errors import BadRecipe
from pellucid.recipe import Recipe
from pellucid.runs.folder import Run
from pellucid.sinks.boards import Boards
from pellucid.sinks.console import Console
from pellucid.training import settle
from pellucid.watch import Watch

CONVOLUTION = 1
"""The place of the convolution among the yardsticks."""


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Args:
        device: in words, with the number of threads.
        torch: its version.
        precision: that the step was computed in.
        yardsticks: of the machine.
        step: of the recipe.
        trials: settings that were tried; empty if none were.
    """

    device: str
    torch: str
    precision: str
    yardsticks: tuple[Yardstick, ...]
    step: StepTimes
    trials: tuple[Trial, ...]

    @property
    def share(self) -> float:
        """Operations per second of a whole step, as a share of the convolution's."""
        return self.step.flops_per_second / (self.yardsticks[CONVOLUTION].value * 1e9)

    @property
    def proposals(self) -> list[Trial]:
        """The settings to propose."""
        return proposals(self.trials)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {
            **asdict(self),
            "images_per_second": self.step.images_per_second,
            "share_of_convolution": self.share,
            "proposals": [trial.setting for trial in self.proposals],
        }


def bench(
    recipe: Recipe,
    *,
    steps: int = 50,
    compiled: bool = False,
    settings: bool = True,
    console: Console | None = None,
) -> Bench:
    """Measure this machine, a step of `recipe` on it, and settings that may be faster.

    Nothing is kept: the run that the steps are recorded in lies in a temporary folder.

    Args:
        recipe: what would be trained.
        steps: of which the time is taken, at least 1.
        compiled: try `torch.compile` too, which takes from ten seconds to minutes.
        settings: try settings; else only machine and step are measured.
        console: told what is being done.

    Raises:
        UserError: if the recipe cannot be trained here.

    >>> from pellucid import good
    >>> bench(good("digits"), steps=1, settings=False).step.images
    128
    """
    console = console or Console()
    if steps < 1:
        raise BadRecipe(f"--steps must be at least 1. Got {steps}.")
    with kept_threads():
        engine = Engine.start(recipe.engine)
        console.line(f"device: {engine.name}")
        found = yardsticks(engine.device)
        times = _step(recipe, engine, steps, console)
        device = engine.name
        tries = candidates(recipe, engine, compiled=compiled) if settings else []
    trials = try_all(recipe, tries, console)
    return Bench(device, torch.__version__, engine.precision, found, times, trials)


def try_all(recipe: Recipe, tries: Sequence[Candidate], console: Console) -> tuple[Trial, ...]:
    """Try settings one after the other."""
    trials = []
    for number, candidate in enumerate(tries, 1):
        console.progress(f"trying {candidate.setting}", number, len(tries))
        trials.append(tried(recipe, candidate))
    return tuple(trials)


def _step(recipe: Recipe, engine: Engine, steps: int, console: Console) -> StepTimes:
    built = assemble(recipe, engine, console.progress)
    settle(engine, built, console)
    with tempfile.TemporaryDirectory(prefix="pellucid-bench-") as folder:
        run = Run.make(Path(folder), "bench")
        boards = Boards.of(None, None, console.line)  # a real one would show steps of no run
        with Watch(run, recipe, engine, built, boards, Console()) as watch:
            watch.start(None)
            return step_times(engine, built, watch, steps)
