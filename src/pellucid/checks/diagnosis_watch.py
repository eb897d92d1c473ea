"""Watching a run: vital signs at each evaluation, and what is new about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pellucid.checks.diagnosis import News, diagnose
from pellucid.checks.diagnosis_facts import Facts, Finding
from pellucid.inspection.vitals import sample, vitals, weights_of
from pellucid.state import State
from pellucid.task import Task

Row = dict[str, Any]


class Watch:
    """Takes the vital signs of a run, and tells what is new in its diagnosis.

    To be made while `state` is at step 0, before a checkpoint is loaded into it: change is
    measured from there.

    Args:
        state: at step 0, on its device.
        task: what the loop works on.
        facts: of the recipe and the data.
        device: where the model is.
    """

    def __init__(self, state: State, task: Task, facts: Facts, device: torch.device) -> None:
        self.state = state
        self.task = task
        self.facts = facts
        self.device = device
        self.images = sample(task.probe)
        self.start = weights_of(state.model)
        self.news = News()

    def look(self) -> Row:
        """Return the vital signs of the model as it is now: a row for `metrics.jsonl`."""
        pixels = self.images.pixels(torch.arange(len(self.images)))
        return vitals(
            self.state.model,
            self.task.prepare(pixels.to(self.device)),
            self.images.targets.to(self.device),
            step=self.state.step,
            loss=self.task.loss,
            start=self.start,
        )

    def tell(self, rows: Sequence[Row], diverged: int | None = None) -> list[Finding]:
        """Return what the diagnosis of the rows so far says and no earlier one said."""
        return self.news(diagnose(rows, self.facts, diverged))
