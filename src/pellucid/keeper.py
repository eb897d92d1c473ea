"""Saving a run while it trains: checkpoints, and snapshots for looking inside."""

from __future__ import annotations

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
        self.state: State = built.state
        self.steps = plan.steps
        self.every = recipe.record.checkpoint.steps(*lengths)
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
        state = self.state
        last = stopped or state.stop.now or state.step == self.steps
        if not (last or due(state.step, self.every, self.steps) or state.best.step == state.step):
            return
        self.recorder.settle()  # nothing that is not finite gets into a checkpoint
        try:
            facts = {**state.facts(), "recorder": self.recorder.facts(), **self.facts}
            self.run.checkpoints.save(state.tensors(), facts)
        except SaveFailed as error:
            if last:
                raise
            self.console.line(f"warning: {error} Training goes on; the next save tries again.")
            return
        self._prune()

    def _prune(self) -> None:
        """Keep the last two, the best, and every k-th for good."""
        saved = self.run.checkpoints.steps()
        every = {step for step in saved if self.keep and step % self.keep == 0}
        self.run.checkpoints.prune({*saved[-2:], self.state.best.step, *every})


def level(engine: Engine, built: Assembled) -> str:
    """Return how closely a run can be repeated: `bitwise`, `seeded`, or `free`."""
    return "free" if built.splits.random else engine.level


def data_facts(built: Assembled) -> dict[str, Any]:
    """Return what a checkpoint has to know of the data: digest, classes, preprocessing."""
    splits = built.splits
    return {
        "data_digest": splits.digest,
        "classes": list(splits.train.classes),
        "preprocessing": {
            "shape": list(built.preprocessing.shape),
            "mean": list(built.preprocessing.mean),
            "std": list(built.preprocessing.std),
        },
    }
