"""The clocked loop is the loop: the same weights, and parts that add up to the whole."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pellucid import Recipe, good, steps
from pellucid.assemble import Assembled, assemble
from pellucid.bench.clocked import PHASES, StepTimes, step_times
from pellucid.engine import Engine
from pellucid.loop import fit
from pellucid.models.mlp import MLPSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.runs.folder import Run
from pellucid.sinks.boards import Boards
from pellucid.sinks.console import Console
from pellucid.values import Batch
from pellucid.watch import Watch

SHORT = good("digits").with_(length=steps(4), evaluate=steps(4), batch_size=16)


def clocked(recipe: Recipe, built: Assembled, engine: Engine, path: Path, count: int) -> StepTimes:
    run = Run.make(path, "bench")
    with Watch(run, recipe, engine, built, Boards.of(None, None, str), Console()) as watch:
        watch.start(None)
        return step_times(engine, built, watch, count)


def test_it_trains_as_the_plain_loop_does(tmp_path: Path) -> None:
    """Two steps that are not counted, then three; also what counting operations did is undone.

    With BatchNorm, which takes note of each batch that it sees.
    """
    engine = Engine.start(SHORT.engine)
    long = SHORT.with_(model=ResNetSpec(depth=8, width=4), length=steps(50), evaluate=steps(50))
    built = assemble(long, engine)
    clocked(long, built, engine, tmp_path, 3)
    plain = assemble(long, engine)
    for step in fit(plain.state, plain.task, engine):
        if step.index == 5:
            break
    assert built.state.step == 5
    for name, value in plain.state.model.state_dict().items():
        assert torch.equal(value, built.state.model.state_dict()[name]), name


def test_the_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    engine = Engine.start(SHORT.engine)
    times = clocked(SHORT, assemble(SHORT, engine), engine, tmp_path, 6)
    assert tuple(times.seconds) == PHASES
    assert all(value >= 0 for value in times.seconds.values())
    assert sum(times.seconds.values()) >= times.whole * (1 - 1e-9)
    assert times.seconds["forward"] + times.seconds["backward"] < times.whole
    assert times.n == 6
    assert times.images_per_second == pytest.approx(16 / times.whole)


@pytest.mark.parametrize("phase", ["input", "forward", "backward", "update", "recording"])
def test_what_takes_longer_shows_in_its_part(phase: str, tmp_path: Path) -> None:
    """A part is made to take 50 ms longer; the others do not grow by half as much."""
    engine = Engine.start(SHORT.engine)
    recipe = SHORT.with_(model=MLPSpec(hidden=(8,)))
    built = assemble(recipe, engine)
    task = built.task
    if phase == "input":

        def slow(batch: Batch, step: int) -> Batch:
            time.sleep(0.05)
            return task.augment(batch, step)

        built = replace(built, task=replace(task, augment=slow))
    elif phase == "forward":
        built.state.model.register_forward_hook(lambda *_: time.sleep(0.05))
    elif phase == "backward":
        next(built.state.model.parameters()).register_hook(lambda _: time.sleep(0.05))
    elif phase == "update":
        built.state.optimizer.register_step_pre_hook(lambda *_: time.sleep(0.05))
    run = Run.make(tmp_path, "bench")
    with Watch(run, recipe, engine, built, Boards.of(None, None, str), Console()) as watch:
        watch.start(None)
        if phase == "recording":
            watch.console.step = lambda *_: time.sleep(0.05)  # type: ignore[method-assign]
        times = step_times(engine, built, watch, 3)
    assert times.seconds[phase] >= 0.05
    assert max((v, k) for k, v in times.seconds.items())[1] == phase


def test_operations_are_those_of_the_products(tmp_path: Path) -> None:
    """Two layers: forward, gradient of the weights, and of the second layer's input."""
    engine = Engine.start(SHORT.engine)
    recipe = SHORT.with_(model=MLPSpec(hidden=(32,)))
    times = clocked(recipe, assemble(recipe, engine), engine, tmp_path, 1)
    first, second = 16 * 784 * 32, 16 * 32 * 10
    assert times.flops == 2 * (2 * first + 3 * second)
    assert times.flops_per_second == pytest.approx(times.flops / times.whole)
