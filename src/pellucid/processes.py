"""Training by several processes: how they start alike, and what all but rank 0 do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pellucid.assemble import Assembled, assemble
from pellucid.catalogue import from_toml, from_tree, to_toml, to_tree
from pellucid.distributed.group import Alone, Together
from pellucid.distributed.place import job, place
from pellucid.engine import Engine
from pellucid.errors import BadRecipe
from pellucid.keeper import SaveTimes, save_together
from pellucid.loop import fit
from pellucid.recipe import Recipe
from pellucid.runs.checkpoint import serialised
from pellucid.runs.folder import ENVIRONMENT, Run
from pellucid.runs.followed import FollowedRun
from pellucid.runs.listing import all_runs
from pellucid.state import State
from pellucid.values import Step

ELSEWHERE = ("data", "engine", "record")
"""Tables of a recipe that may differ by place: a folder of images may lie elsewhere on another
machine; what it holds is compared."""


def follow(processes: Together, recipe: Recipe | None, stop: Callable[[Step], bool]) -> FollowedRun:
    """Train along with rank 0, which owns the run folder, until it ends or stops.

    Nothing is written here, and nothing is read but the data: recipe and state come from rank 0,
    so no file system need be shared.

    Args:
        processes: of the run.
        recipe: needed only if parts of it were given from Python; else that of rank 0.
        stop: asked after each step; when true on any process, all stop.

    Raises:
        Ended: if the run failed elsewhere.
        Drifted: if the processes no longer hold the same state.
    """
    given = processes.hear("recipe", "waiting for the recipe")
    if not given:
        return FollowedRun(Path(), False)
    recipe = recipe or from_tree(from_toml(given), "the recipe of rank 0")
    processes.limit(recipe.engine.timeout)
    engine = Engine.start(recipe.engine, processes)
    processes.hear("data", "waiting for rank 0 to read the data")  # it may fill the cache
    built = assemble(recipe, engine, start=False)
    processes.join(engine.device)
    path = start_together(engine, built, recipe, Path())
    state, task, times = built.state, built.task, SaveTimes(recipe, built)
    for step in fit(state, task, engine):
        stopped = engine.agree(lambda step=step: stop(step))  # type: ignore[misc]
        stopped = stopped and state.step < task.plan.steps and not state.stop.now
        if times.due(stopped):
            save_together(engine, state, lambda: False)
        if stopped:
            return FollowedRun(path, True)
    return FollowedRun(path, False)


def start_together(engine: Engine, built: Assembled, recipe: Recipe, path: Path) -> Path:
    """Give every process the state, the precision and the run folder's place that rank 0 has.

    Then make sure that they train the same recipe on the same data from the same state.

    Args:
        engine: its precision is set, but for rank 0.
        built: its state is set likewise.
        recipe: of this process.
        path: the run folder of rank 0; what others say does not count.
    """
    processes = engine.processes
    if isinstance(processes, Alone):
        return path
    assert isinstance(processes, Together)
    received = processes.hand_out(lambda: _packed(built.state, engine.precision, path))
    if engine.rank:
        head = json.loads(received[0])
        names = head["files"]
        tensors = {n: safetensors.torch.load(d) for n, d in zip(names, received[1:], strict=True)}
        built.state.load(tensors, head["facts"])
        engine.precision = head["precision"]
        path = Path(head["path"])
    processes.compare(lambda: _all_of(built, recipe), "at the start")
    return path


def with_processes(recipe: Recipe, processes: Alone | Together) -> Recipe:
    """Return `recipe` with the number of processes that there are, for who repeats the run."""
    if recipe.engine.size > processes.size == 1:
        key = "procs" if recipe.engine.name == "torch" else "workers"
        raise BadRecipe(
            f"engine.{key} is {recipe.engine.size}, and this process is alone. The command line "
            f"starts the others: pellucid train --engine.{key} N. A program of your own is started "
            "by torchrun --nproc-per-node N."
        )
    spec = recipe.engine.of(processes.size)
    return recipe.with_(engine=spec)


def begun_here(runs: Path) -> Run | None:
    """Return the run in `runs` that this job began before `torchrun` started it anew, if any."""
    here, mine = place(), job()
    if here is None or not here.restarts:
        return None
    for run in reversed(all_runs(runs)):
        theirs = (run.read_json(ENVIRONMENT) or {}).get("job", {})
        named = mine["id"] != "none" and theirs.get("id") == mine["id"] and not run.summary()
        if theirs == mine or named:
            return run
    return None


def _packed(state: State, precision: str, path: Path) -> list[bytes]:
    tensors = state.tensors()
    head: dict[str, Any] = {
        "path": str(path),
        "precision": precision,
        "facts": state.facts(),
        "files": list(tensors),
    }
    return [json.dumps(head).encode(), *map(serialised, tensors.values())]


def _all_of(built: Assembled, recipe: Recipe) -> dict[str, Tensor]:
    """Return what has to be the same at the start: state, recipe, data."""
    tree = {key: part for key, part in to_tree(recipe).items() if key not in ELSEWHERE}
    texts = {"the recipe": to_toml(tree), "the data": built.splits.digest}
    named = {
        name: torch.frombuffer(bytearray(t.encode()), dtype=torch.uint8)
        for name, t in texts.items()
    }
    return {**built.state.flat_tensors(), **named}
