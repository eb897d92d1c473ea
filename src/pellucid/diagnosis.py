"""The diagnosis of a run beside its training: asked at each evaluation and at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pellucid.assemble import Assembled
from pellucid.checks.diagnosis import Finding, diagnose
from pellucid.checks.diagnosis_data import agreement, look_at_data
from pellucid.checks.diagnosis_facts import facts_of
from pellucid.checks.diagnosis_task import look_at_task
from pellucid.checks.diagnosis_watch import Watch
from pellucid.engine import Engine
from pellucid.recipe import Recipe
from pellucid.sinks.console import Console
from pellucid.values import Predictions

T = TypeVar("T")
Row = dict[str, Any]


class Diagnosis:
    """Says what is wrong with a run, each finding once. It never stops one.

    To be made while the state is at step 0. Should the diagnosis itself fail, on a network of an
    unforeseen kind perhaps, it says so once and is switched off.

    Args:
        recipe: of the run.
        engine: that it computes on.
        built: at step 0.
        console: where findings are told.
    """

    def __init__(self, recipe: Recipe, engine: Engine, built: Assembled, console: Console) -> None:
        self.console = console
        self.watch = self._try(lambda: _watch(recipe, engine, built))

    def look(self) -> Row | None:
        """Return the vital signs of the model as it is now, a row for `metrics.jsonl`."""
        watch = self.watch
        return self._try(watch.look) if watch else None

    def known(self, rows: Sequence[Row]) -> None:
        """Take what an earlier sitting of the run has told as told."""
        watch = self.watch
        if watch and len(rows) > 1:
            self._try(lambda: watch.tell(rows))

    def tell(self, rows: Sequence[Row]) -> None:
        """Say what is new in the rows so far."""
        watch = self.watch
        for finding in (self._try(lambda: watch.tell(rows)) if watch else None) or ():
            self.console.line(text_of(finding))

    def diverged(self, rows: Sequence[Row], step: int) -> list[Finding]:
        """Return all findings on a run whose loss was no finite number at `step`; say the new."""
        watch = self.watch
        if not watch:
            return []
        for finding in self._try(lambda: watch.tell(rows, step)) or ():
            self.console.line(text_of(finding))
        return self._try(lambda: diagnose(rows, watch.facts, step)) or []

    def conclude(self, rows: Sequence[Row], validation: Predictions) -> list[Finding]:
        """Return all findings on the finished run, given its predictions; say the new ones."""
        watch = self.watch
        if not watch:
            return []
        if len(validation):
            said = agreement(validation.targets, validation.labels, validation.classes)
            watch.facts = replace(watch.facts, judged=said)
        self.tell(rows)
        return self._try(lambda: diagnose(rows, watch.facts)) or []

    def _try(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception as error:
            self.watch = None
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            self.console.line(f"warning: the diagnosis is switched off, training goes on: {reason}")
            return None


def text_of(finding: Finding) -> str:
    """Return a finding in lines of at most 80 characters."""
    return textwrap.fill(str(finding), 80, subsequent_indent="  ", break_on_hyphens=False)


def _watch(recipe: Recipe, engine: Engine, built: Assembled) -> Watch:
    smoothing = float(getattr(recipe.loss, "label_smoothing", 0.0))
    task, splits, device = built.task, built.splits, engine.device
    seen = look_at_task(task, splits.train, device, smoothing)
    facts = facts_of(recipe, splits, task.plan, built.state.model, look_at_data(splits), seen)
    return Watch(built.state, task, facts, device)
