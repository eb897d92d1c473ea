"""Watching a real run: it changes nothing, and goes on after a resume as if it had not stopped."""

from __future__ import annotations

import copy
import json

from pellucid import Engine, Recipe
from pellucid.assemble import assemble
from pellucid.checks.diagnosis_facts import facts_of
from pellucid.checks.diagnosis_watch import Watch
from pellucid.loop import fit
from pellucid.optim.specs import SGD


def watched(recipe: Recipe):  # type: ignore[no-untyped-def]
    engine = Engine.start(recipe.engine)
    built = assemble(recipe, engine)
    facts = facts_of(recipe, built.splits, built.task.plan, built.state.model)
    return built, engine, Watch(built.state, built.task, facts, engine.device)


def test_a_resumed_run_writes_the_same_rows(tiny: Recipe) -> None:
    """Also one of a new process: change is measured from a start that the seed gives again."""
    built, engine, watch = watched(tiny)
    whole = [watch.look()]
    saved = None
    for step in fit(built.state, built.task, engine):
        if step.evaluation:
            whole.append(watch.look())
        if step.index == 5:
            tensors = {
                k: {n: t.clone() for n, t in v.items()} for k, v in built.state.tensors().items()
            }
            saved = tensors, copy.deepcopy(built.state.facts())
    assert saved is not None
    assert [row["step"] for row in whole] == [0, 2, 4, 6, 8, 10, 12]
    again, engine, watch = watched(tiny)
    again.state.load(*saved)
    rows = [watch.look() for step in fit(again.state, again.task, engine) if step.evaluation]
    assert rows == whole[3:]
    changes = [row["change"] for row in whole]
    assert changes[0] == 0 < changes[1] < changes[-1]
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole


def test_what_is_told_is_told_once(tiny: Recipe) -> None:
    built, engine, watch = watched(tiny.with_(optimizer=SGD(lr=50.0, weight_decay=0.0)))
    rows, told = [watch.look()], []
    assert watch.tell(rows) == []
    for step in fit(built.state, built.task, engine):
        if step.evaluation:
            rows.append(watch.look())
            told += [f.name for f in watch.tell(rows) if f.severity == "warning"]
    assert told
    assert len(told) == len(set(told))
    assert watch.tell(rows) == []
    assert [f.name for f in watch.tell(rows, diverged=11)] == ["lr-too-high"]
