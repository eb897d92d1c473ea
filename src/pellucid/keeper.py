"""Saving a run while it trains: checkpoints, and snapshots for looking inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pellucid.assemble import Assembled
from pellucid.catalogue import to_toml, to_tree
from pellucid.engine import Engine
from pellucid.errors import SaveFailed
from pellucid.plan import due
from pellucid.recipe import Recipe
from pellucid.runs.folder import Run
from pellucid.runs.snapshots import save_snapshot, snapshot_steps
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
    """Let each process do its part of a save: on rank 0 `save` writes, elsewhere it does nothing.

    That all of them hold the same state is made sure of first. That writing failed, all of them
    know after it.

    Raises:
        Drifted: if a weight, or anything else that is saved, is not the same everywhere.
        Ended: if writing failed elsewhere, and the run cannot go on.
    """
    engine.processes.compare(state.flat_tensors, f"after step {state.step:,}")
    engine.agree(save)


class Keeper:
    """Saves a run's state when it is time."""

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
        self.facts: dict[str, Any] = {
            "recipe": to_toml(to_tree(recipe)),
            "level": level(engine, built),
            "engine": {"device": engine.device.type, "precision": engine.precision},
            **data_facts(built),
        }

    def snapshot(self) -> None:
        """Keep a copy of the weights if one is due after this step."""
        if self.state.step in self.snapshots:
            try:
                save_snapshot(self.run.path, self.state.step, self.state.weights(), self.run.disk)
            except OSError as error:  # it is for looking inside: no reason to stop training
                self.console.line(
                    f"warning: no snapshot of the weights after step {self.state.step}: "
                    f"{error.strerror or error}."
                )

    def save_if_due(self, stopped: bool) -> None:
        """Save when it is time, when this step is the best so far, or when the run stops.

        A save that the disk refuses is reported, and tried again when the next is due; only at
        the end of a run, or when it stops, is it an error.

        Raises:
            SaveFailed: as said.
        """
        if self.times.due(stopped):
            last = self.times.last(stopped)
            save_together(self.engine, self.state, lambda: self._save(last))

    def _save(self, last: bool) -> bool:
        state = self.state
        self.recorder.settle()  # nothing that is not finite gets into a checkpoint
        try:
            facts = {**state.facts(), "recorder": self.recorder.facts(), **self.facts}
            self.run.checkpoints.save(state.tensors(), facts)
        except SaveFailed as error:
            if last:
                raise
            self.console.line(f"warning: {error} Training goes on; the next save tries again.")
            return False
        self._prune()
        return True

    def _prune(self) -> None:
        """Keep the last two, the best, and every k-th for good."""
        saved = self.run.checkpoints.steps()
        every = {step for step in saved if self.keep and step % self.keep == 0}
        self.run.checkpoints.prune({*saved[-2:], self.state.best.step, *every})


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
