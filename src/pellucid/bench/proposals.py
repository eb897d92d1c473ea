"""Which settings would make a run faster here: each is tried beside the recipe as it is."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from msgspec.structs import replace

from pellucid.assemble import Assembled, assemble
from pellucid.bench.clocked import endless
from pellucid.bench.yardsticks import wait
from pellucid.engine import Engine, EngineSpec, Precision
from pellucid.errors import UserError
from pellucid.limits import usable_cores
from pellucid.loop import fit
from pellucid.precision import settle_precision
from pellucid.recipe import Recipe
from pellucid.values import Step

ROUNDS = 7
"""Pairs of a setting and the recipe as it is. If one is faster in all of them by chance alone,
that has a probability of 1/64 (sign test, two-sided)."""
BLOCK = 0.3
"""Seconds that one half of a pair takes at least."""
WORTH = 0.97
"""A setting that saves less than this share of the time is not worth a word."""


@dataclass(frozen=True)
class Candidate:
    """A setting that may be faster.

    Args:
        setting: as on the command line: `--engine.threads 1`.
        changes: what becomes of the numbers: `last bits`, `rounding`, or `the training`.
        recipe: with the setting.
    """

    setting: str
    changes: str
    recipe: Recipe


@dataclass(frozen=True)
class Trial:
    """What a setting gave.

    Args:
        setting: as on the command line.
        changes: what becomes of the numbers.
        ratio: time for an image with it, by that without: median over the pairs; None where it
            cannot be had here.
        low: the least of the pairs.
        high: the most.
        n: number of pairs.
        reason: why it cannot be had, or empty.
    """

    setting: str
    changes: str
    ratio: float | None
    low: float | None
    high: float | None
    n: int
    reason: str = ""

    @property
    def faster(self) -> bool:
        """Whether it was faster in all pairs, and by enough to matter."""
        return self.ratio is not None and self.high is not None and self.high < 1 and (
            self.ratio <= WORTH
        )  # fmt: skip


def candidates(recipe: Recipe, engine: Engine, *, compiled: bool = False) -> list[Candidate]:
    """Return the settings that are worth a try on the device of `engine`.

    Args:
        recipe: as it is.
        engine: that would compute it.
        compiled: try `torch.compile` too, which takes from ten seconds to minutes.
    """
    engines: list[tuple[str, str, EngineSpec]] = []
    asked = recipe.engine
    if engine.device.type == "cpu":
        now = torch.get_num_threads()
        counts = [n for n in range(1, len(usable_cores()) + 1) if n != now]
        engines += [
            (f"--engine.threads {n}", "last bits", replace(asked, threads=n)) for n in counts
        ]
    lower: list[Precision] = ["bf16"] if engine.device.type == "cpu" else ["bf16", "fp16"]
    engines += [
        (f"--precision {name}", "rounding", replace(asked, precision=name))
        for name in lower
        if name != asked.precision
    ]
    if compiled and not asked.compile:
        engines.append(("--compile", "last bits", replace(asked, compile=True)))
    found = [
        Candidate(setting, changes, recipe.with_(engine=spec)) for setting, changes, spec in engines
    ]
    for size in (2 * recipe.batch_size, 4 * recipe.batch_size):
        other = recipe.with_(batch_size=size)
        found.append(Candidate(f"--batch-size {size}", "the training", other))
    return found


def tried(recipe: Recipe, candidate: Candidate, rounds: int = ROUNDS) -> Trial:
    """Train with and without the setting in turns, and compare the time for an image, in pairs.

    Both train for good on states of their own; order and draws are those of a run. The order
    within a pair alternates, so that neither is always the first.

    Args:
        recipe: as it is.
        candidate: the setting.
        rounds: number of pairs, at least 1.
    """
    try:
        with kept_threads(), _runner(recipe) as plain, _runner(candidate.recipe) as other:
            ratios = []
            for number in range(rounds):
                pair = (plain, other) if number % 2 == 0 else (other, plain)
                pace = {runner: runner.pace() for runner in pair}
                ratios.append(pace[other] / pace[plain])
    except (UserError, _NotHere) as error:
        return Trial(candidate.setting, candidate.changes, None, None, None, 0, str(error))
    middle = statistics.median(ratios)
    return Trial(
        candidate.setting, candidate.changes, middle, min(ratios), max(ratios), len(ratios)
    )


def proposals(trials: Sequence[Trial]) -> list[Trial]:
    """Return the settings to propose, the fastest first, at most one of each kind.

    >>> proposals([Trial("--engine.threads 1", "last bits", 1.4, 1.3, 1.5, 7)])
    []
    """
    best: dict[str, Trial] = {}
    for trial in sorted((t for t in trials if t.faster), key=lambda t: t.ratio or 0.0):
        best.setdefault(trial.setting.split()[0], trial)
    return list(best.values())


class _NotHere(Exception):
    """What was asked for is not used on this machine."""


class _Runner:
    """A run that never ends, and is trained a little at a time."""

    def __init__(self, recipe: Recipe, engine: Engine, built: Assembled) -> None:
        self.threads = recipe.engine.threads or torch.get_num_threads()
        self.engine = engine
        self.images = len(built.task.train.index(0))
        self.steps: Iterator[Step] = fit(built.state, endless(built.task), engine)
        self.block = 0

    def pace(self) -> float:
        """Train for a while; return the seconds an image took."""
        torch.set_num_threads(self.threads)
        if not self.block:
            self._train(2)
            self.block = max(1, round(BLOCK / self._train(2) * 2))
        return self._train(self.block) / (self.block * self.images)

    def _train(self, steps: int) -> float:
        wait(self.engine.device)
        began = time.perf_counter()
        for _ in range(steps):
            next(self.steps)
        wait(self.engine.device)
        return time.perf_counter() - began


@contextlib.contextmanager
def _runner(recipe: Recipe) -> Iterator[_Runner]:
    engine = Engine.start(recipe.engine)
    built = assemble(recipe, engine)
    line = settle_precision(engine, built.state.model, built.first(engine).images)
    if engine.precision != recipe.engine.precision:
        raise _NotHere(line)
    runner = _Runner(recipe, engine, built)
    try:
        yield runner
    finally:
        runner.steps.close()  # type: ignore[attr-defined]


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """Put the number of CPU threads back at the end."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
