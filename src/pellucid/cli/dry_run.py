"""`pellucid train --dry-run`: the resolved recipe and the plan; nothing is kept."""

from __future__ import annotations

import json as json_text
import sys
from typing import Any

from pellucid.assemble import assemble
from pellucid.catalogue import to_json, to_toml, to_tree
from pellucid.checks.rehearsal import peak_memory
from pellucid.engine import Engine
from pellucid.recipe import Recipe
from pellucid.sinks.console import Console
from pellucid.values import Progress, no_progress


def dry_run(recipe: Recipe, engine: Engine, json: bool) -> int:
    """Print what `recipe` would do: steps, parameters, expected memory."""
    console = Console(sys.stderr)
    facts, notes = plan_of(recipe, engine, console.progress)
    console.close()
    if json:
        print(f'{{"recipe": {to_json(to_tree(recipe))}, "plan": {json_text.dumps(facts)}}}')
        return 0
    print(to_toml(to_tree(recipe)))
    for note in notes:
        print(f"# note: {note}")
    for name, value in facts.items():
        print(f"# {name}: {value:,}" if isinstance(value, int) else f"# {name}: {value}")
    return 0


def plan_of(
    recipe: Recipe, engine: Engine, progress: Progress = no_progress
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the lengths and sizes of a run of `recipe`, and the notes on its data.

    `memory_mb` is the most memory that the process will hold, all libraries included (without
    that of a GPU); None where the system does not say.
    """
    built = assemble(recipe, engine, progress)
    plan, splits = built.task.plan, built.splits
    facts: dict[str, Any] = {
        "device": engine.name,
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "evaluate_every": plan.evaluate,
        "train": len(splits.train),
        "validation": len(splits.validation),
        "test": len(splits.test),
        "parameters": sum(p.numel() for p in built.state.model.parameters()),
    }
    peak = peak_memory(recipe, built)
    facts["memory_mb"] = None if peak is None else round(peak / 1e6)
    return facts, splits.notes
