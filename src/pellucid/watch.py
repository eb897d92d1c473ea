"""Everything that looks on while a run trains: recorder, console, diagnosis, boards, device."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from pellucid.assemble import Assembled
from pellucid.catalogue import to_toml, to_tree
from pellucid.checks.diagnosis import Finding
from pellucid.diagnosis import Diagnosis
from pellucid.engine import Engine
from pellucid.errors import Diverged
from pellucid.recipe import Recipe
from pellucid.runs.folder import DIAGNOSIS, TIMING, Run
from pellucid.sinks.board import Story
from pellucid.sinks.boards import Boards
from pellucid.sinks.console import Console
from pellucid.sinks.device import DeviceWatch, device_text
from pellucid.sinks.recorder import Recorder
from pellucid.values import Predictions, Step

SAMPLES = 16
"""Training images that a board shows at an evaluation."""


class Watch:
    """Shows and writes down each step. It decides nothing, and no number depends on it.

    Args:
        run: where it is written.
        recipe: of the run.
        engine: that it computes on.
        built: what is trained.
        boards: not open yet.
        console: for people.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        engine: Engine,
        built: Assembled,
        boards: Boards,
        console: Console,
    ) -> None:
        self.run = run
        self.recipe = recipe
        self.engine = engine
        self.built = built
        self.boards = boards
        self.console = console
        self.device = DeviceWatch(engine.device)
        self.diagnosis = Diagnosis(recipe, engine, built, console)
        self.rows: list[dict[str, Any]] = []
        self.epochs = built.task.plan.epoch(built.task.plan.steps)
        train, batches = built.splits.train, built.task.train
        self.recorder = Recorder(
            run.metrics, run.path / TIMING, recipe.record.every,
            lambda step: [train.describe(i) for i in batches.index(step).tolist()],
            overflows=engine.precision == "fp16",
        )  # fmt: skip
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for part in (self.recorder, self.device, self.boards):
            self._open.enter_context(part)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def start(self, facts: dict[str, Any] | None) -> None:
        """Begin, or go on where a checkpoint's `facts` say that the rows ended."""
        self.recorder.load(facts)
        self.rows = self.run.rows(self.run.metrics.name)
        if self.boards.on:
            text, step = to_toml(to_tree(self.recipe)), self.built.state.step
            self.boards.open(Story(self.run.path, self.run.name, text, step, list(self.rows)))
            self._show(step)
        if not self.rows:
            self._diagnose()
        self.diagnosis.known(self.rows)

    def __call__(self, step: Step) -> None:
        """Take note of one step."""
        try:
            rows = self.recorder(step)
        except Diverged as error:
            self._keep(self.diagnosis.diverged(self.rows, error.step))
            raise
        self.rows += rows
        self.console.step(step, rows, self.built.task.plan.steps, self.epochs)
        self.boards.rows(rows)
        if step.evaluation:
            self._diagnose()
            self.device.ask(step.index)
            if self.boards.on:
                self._show(step.index)
        self._device()

    def conclude(self, validation: Predictions) -> list[Finding]:
        """Return the diagnosis of the finished run; it is also kept in the run folder."""
        findings = self.diagnosis.conclude(self.rows, validation)
        self._keep(findings)
        return findings

    def result(self, text: str) -> None:
        """Show what came out in the end."""
        self.boards.result(text)
        self.device.close()
        self._device()

    def _show(self, step: int) -> None:
        """Let the boards look inside the model after `step` steps."""
        weights = self.built.state.ema.model.state_dict()
        self.boards.look(step, weights, self._samples(max(step - 1, 0)))

    def _device(self) -> None:
        """Write down what the device does, if a reading is there."""
        reading = self.device.take()
        if reading:
            self.recorder.note(reading)
            show = self.console.line if reading.get("gpu") else self.console.log
            show(device_text(reading))

    def _diagnose(self) -> None:
        """Write down the vital signs, and say what is new."""
        row = self.diagnosis.look()
        if row:
            self.recorder.add(row)
            self.rows.append(row)
        self.diagnosis.tell(self.rows)

    def _keep(self, findings: Sequence[Finding]) -> None:
        self.run.write_json(DIAGNOSIS, {"findings": [asdict(finding) for finding in findings]})

    def _samples(self, step: int) -> Tensor:
        """Return some images of the batch of `step` as the network got them, back in [0, 1]."""
        task = self.built.task
        batch = next(iter(task.train.pieces(step)))
        images = task.augment(self.engine.place(batch), step).images[:SAMPLES]
        return self.built.preprocessing.undo(images)
