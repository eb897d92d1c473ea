"""Real runs with both boards on: the same numbers, and nothing stops when a board does."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pellucid import Console, Recipe, resume, train
from pellucid.boardspec import TensorBoardSpec, VisdomSpec
from pellucid.plan import steps
from pellucid.runs.folder import Run
from pellucid.runs.listing import all_runs
from pellucid.sinks.charts import CHARTS, points
from pellucid.values import Step


def with_boards(recipe: Recipe, port: int | None = None) -> Recipe:
    visdom = None if port is None else VisdomSpec(port=port)
    record = msgspec.structs.replace(
        recipe.record, tensorboard=TensorBoardSpec(), visdom=visdom, checkpoint=steps(3)
    )
    return recipe.with_(record=record)


def in_tensorboard(run: Run) -> list[tuple[str, int, float]]:
    folder = str(run.path / "tensorboard")
    found = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
    tags = found.Tags()["scalars"]
    return sorted((tag, one.step, one.value) for tag in tags for one in found.Scalars(tag))


def in_the_log(run: Run) -> list[tuple[str, int, float]]:
    found = points(run.rows("metrics.jsonl"))
    return sorted((p.tag, p.step, float(np.float32(p.value))) for p in found)


def after(step: int, what: Callable[[], Any]) -> Callable[[Step], bool]:
    """Return a `stop` that does `what` after that many steps, and stops if it says so."""
    asked = iter(range(1, 10_000))
    return lambda _: next(asked) == step and bool(what())


def test_a_visdom_server_that_is_killed_in_the_middle_of_a_run(
    recipe: Recipe, finished: Run, own_visdom: Any, tmp_path: Path
) -> None:
    """One warning; the run ends, complete, with the numbers of a run without boards."""

    def kill() -> None:
        environment = all_runs(tmp_path)[0].name
        while "recipe" not in own_visdom.windows(environment):
            pass  # it works before it is killed; the test's time limit ends this
        own_visdom.process.kill()
        own_visdom.process.wait()

    said = io.StringIO()
    with_both = with_boards(recipe, own_visdom.port)
    run = train(with_both, tmp_path, console=Console(said), stop=after(5, kill))
    for text in (said.getvalue(), (run.path / "log.txt").read_text()):
        (warning,) = [line for line in text.splitlines() if line.startswith("warning")]
        assert warning.startswith("warning: Visdom is switched off, training goes on: no Visdom s")
        assert warning.endswith(f"python -m visdom.server -port {own_visdom.port} -bind_local")
    assert run.summary() is not None
    assert run.metrics.read_bytes() == finished.metrics.read_bytes()
    here, there = ({path.name for path in one.path.iterdir()} for one in (run, finished))
    assert here == {*there, "tensorboard"}
    assert in_tensorboard(run) == in_the_log(run)


def test_a_run_that_is_stopped_and_resumed(
    recipe: Recipe, finished: Run, shared_visdom: Any, tmp_path: Path
) -> None:
    with_both = with_boards(recipe, shared_visdom.port)
    run = train(with_both, tmp_path, stop=after(7, lambda: True))
    assert run.summary() is None
    run = resume(run.path, with_both)
    assert run.metrics.read_bytes() == finished.metrics.read_bytes()
    assert in_tensorboard(run) == in_the_log(run)
    assert len(list((run.path / "tensorboard").iterdir())) == 2
    shown = {
        (line.tag, step, value)
        for chart in CHARTS
        for line in chart.lines
        for step, value in shared_visdom.lines(run.name, chart.name)[line.label]
    }
    assert shown == set(points(run.rows("metrics.jsonl")))
    windows = shared_visdom.windows(run.name)
    assert {"filters", "samples", "weights", "recipe", "result"} <= set(windows)
    assert "test accuracy" in windows["result"]["content"]


@pytest.mark.parametrize("steps_done", [pytest.param(3, marks=pytest.mark.slow), 8])
def test_a_run_that_was_killed_between_two_checkpoints(
    recipe: Recipe, finished: Run, tmp_path: Path, steps_done: int
) -> None:
    """What the boards got after the last checkpoint is purged, and comes again."""

    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    with pytest.raises(Died):
        train(with_boards(recipe), tmp_path, stop=after(steps_done, die))
    run = resume(all_runs(tmp_path)[0].path, with_boards(recipe))
    assert run.metrics.read_bytes() == finished.metrics.read_bytes()
    assert in_tensorboard(run) == in_the_log(run)
