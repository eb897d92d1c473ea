"""Saving a run while it trains: checkpoints, and snapshots for looking inside.

The loop waits for a copy of the state, a thread writes it (`runs/writer.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from pellucid.assemble import Assembled
from pellucid.catalogue import to_toml, to_tree
from pellucid.engine import Engine
from pellucid.errors import SaveFailed
from pellucid.plan import due
from pellucid.recipe import Recipe
from pellucid.runs.checkpoint import Tensors
from pellucid.runs.folder import Run
from pellucid.runs.snapshots import save_snapshot, snapshot_steps
from pellucid.runs.writer import Writer
from pellucid.sinks.console import Console
from pellucid.sinks.recorder import Recorder
from pellucid.state import State


class SaveTimes:
    """When a run is saved: the same steps on every process.

    Args:
        recipe: of the run.
        built: what is trained.
    """

    def __init__(self, recipe: Recipe, built: Assembled) -> None:
        plan = built.task.plan
        self.state: State = built.state
        self.steps = plan.steps
        self.every = recipe.record.checkpoint.steps(
            plan.steps_per_epoch, recipe.batch_size, plan.steps
        )

    def last(self, stopped: bool) -> bool:
        """Return whether the run ends here, or stops."""
        return stopped or self.state.stop.now or self.state.step == self.steps

    def due(self, stopped: bool) -> bool:
        """Return whether it is time, this step is the best so far, or the run stops."""
        state = self.state
        time = due(state.step, self.every, self.steps)
        return self.last(stopped) or time or state.best.step == state.step


def save_together(engine: Engine, state: State, save: Callable[[], bool]) -> None:
    """Let each process do its part of a save: on rank 0 `save` begins it, elsewhere it is idle.

    That all of them hold the same state is made sure of first. If `save` fails, because the disk
    refused the last one of a run or an earlier one came out damaged, all of them end.

    Raises:
        Drifted: if a weight, or anything else that is saved, is not the same everywhere.
        Ended: if saving failed elsewhere, and the run cannot go on.
    """
    engine.processes.compare(state.flat_tensors, f"after step {state.step:,}")
    engine.agree(save)


class Keeper:
    """Saves a run's state when it is time.

    Training pauses while the state is copied; then it goes on, and a thread writes the copy, reads
    it back and prunes. If the last one is not on the disk yet when the next is due, training waits
    for it: it is never more than one save ahead, and memory holds one copy, never a queue.

    Used in a `with`: leaving it waits until what was begun is on the disk.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        engine: Engine,
        built: Assembled,
        recorder: Recorder,
        console: Console,
    ) -> None:
        plan = built.task.plan
        lengths = (plan.steps_per_epoch, recipe.batch_size, plan.steps)
        self.run = run
        self.engine = engine
        self.state: State = built.state
        self.times = SaveTimes(recipe, built)
        self.keep = recipe.record.keep.steps(*lengths)
        self.snapshots = snapshot_steps(plan.steps, recipe.record.snapshots)
        self.recorder = recorder
        self.console = console
        self.writer = Writer()
        self.facts: dict[str, Any] = {
            "recipe": to_toml(to_tree(recipe)),
            "level": level(engine, built),
            "engine": {"device": engine.device.type, "precision": engine.precision},
            **data_facts(built),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.writer.wait()
        except Exception as failure:
            if error is None and not isinstance(failure, SaveFailed):
                raise
            self.console.line(f"warning: {failure}")  # what ends the run matters more
        finally:
            self.writer.close()

    def snapshot(self) -> None:
        """Keep a copy of the weights if one is due after this step.

        It is on the disk before the next checkpoint is: a run that is resumed from that has it.
        """
        step = self.state.step
        if step in self.snapshots:
            self._settle()
            self.writer.begin(partial(self._write_snapshot, step, self.state.weights()))

    def save_if_due(self, stopped: bool) -> None:
        """Save when it is time, when this step is the best so far, or when the run stops.

        At the end of a run, or when it stops, this returns when all is on the disk. A save that
        the disk refuses is reported when the next is due, which tries again; only at the end is
        it an error.

        Raises:
            SaveFailed: as said.
        """
        if self.times.due(stopped):
            last = self.times.last(stopped)
            save_together(self.engine, self.state, lambda: self._save(last))

    def _save(self, last: bool) -> bool:
        self.recorder.settle()  # nothing that is not finite gets into a checkpoint
        self._settle()  # before the copy is made: two would be in memory
        facts = {**self.state.facts(), "recorder": self.recorder.facts(), **self.facts}
        self.writer.begin(partial(self._write, self.state.tensors(), facts))
        if last:
            self.writer.wait()
        return last

    def _settle(self) -> None:
        """Wait for what is being written, if anything is; say so if the disk refused it."""
        try:
            self.writer.wait()
        except SaveFailed as error:
            self.console.line(f"warning: {error} Training goes on; the next save tries again.")

    def _write(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Write a checkpoint; then keep the last two, the best, and every k-th for good.

        On the thread: the state has moved on, and the best is that of the copy. The rows of
        metrics that the checkpoint counts are on the disk before it is.
        """
        with self.run.metrics.open("ab") as rows:
            os.fsync(rows.fileno())
        checkpoints = self.run.checkpoints
        checkpoints.save(tensors, facts)
        saved = checkpoints.steps()
        every = {step for step in saved if self.keep and step % self.keep == 0}
        checkpoints.prune({*saved[-2:], facts["best"]["step"], *every})

    def _write_snapshot(self, step: int, weights: dict[str, Tensor]) -> None:
        usual = {name: weight.contiguous() for name, weight in weights.items()}
        try:
            save_snapshot(self.run.path, step, usual, self.run.disk)
        except OSError as error:  # it is for looking inside: no reason to stop training
            raise SaveFailed(
                f"No snapshot of the weights after step {step} was kept: {error.strerror or error}."
            ) from error


def level(engine: Engine, built: Assembled) -> str:
    """Return how closely a run can be repeated: `bitwise`, `seeded`, or `free`."""
    return "free" if built.splits.random else engine.level


def data_facts(built: Assembled) -> dict[str, Any]:
    """Return what a checkpoint has to know of the data: digest, labels, classes, preprocessing."""
    splits = built.splits
    return {
        "data_digest": splits.digest,
        "relabelled": splits.relabelled and asdict(splits.relabelled),
        "classes": list(splits.train.classes),
        "preprocessing": {
            "shape": list(built.preprocessing.shape),
            "mean": list(built.preprocessing.mean),
            "std": list(built.preprocessing.std),
        },
    }
