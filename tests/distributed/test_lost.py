"""A process that is killed, frozen or failing ends the others in time, and is named."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from pellucid import Recipe, resume, steps, train
from tests.distributed.group import job
from tests.distributed.recipes import EQUAL, content, only, plain
from tests.distributed.test_together import Said, fails, replace_timeout

TIMEOUT = 3.0


def waits(rank: int, folder: Path, recipe: Recipe) -> Said:
    """Train; return how that ended."""
    return fails(lambda: train(recipe, folder / "runs"))


def goes_on(rank: int, folder: Path, run: Path, recipe: Recipe) -> Said:
    resume(run, recipe)
    return {}


def long(**changes: object) -> Recipe:
    recipe = plain(length=steps(100_000), **changes)
    return recipe.with_(engine=replace_timeout(recipe, TIMEOUT))


def lose(size: int, who: int, number: int, folder: Path, recipe: Recipe) -> list[Said]:
    """Send a signal to one process while it trains; return what the others say when they end."""
    with job(size, folder, waits, recipe) as running:
        running.wait_for(who, "step 5")
        pid = running.processes[who].pid
        assert pid is not None
        os.kill(pid, number)
        began = time.monotonic()
        others = [rank for rank in range(size) if rank != who]
        for rank in others:
            running.processes[rank].join(TIMEOUT + 60)
        lasted = time.monotonic() - began
        said = [running.said(rank) for rank in others]
        last = running.where(who)
    assert lasted < TIMEOUT + 10
    told = [s for s in said if s["kind"] == "LostProcess"]
    assert len(told) == 1, "one of those that are left says it, and only one"
    step = re.search(r"step [\d,]*\d", last)
    assert step is not None
    pattern = f"rank {who} gave no sign of life any more; the last it reached: {step.group()},"
    assert pattern in told[0]["text"]
    assert [s for s in said if s["kind"] not in ("LostProcess", "Ended")] == []
    assert "Traceback" not in json.dumps(said)
    return said


@pytest.mark.parametrize(("who", "number"), [(0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_one_of_two_is_lost(tmp_path: Path, who: int, number: int) -> None:
    lose(2, who, number, tmp_path, long())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(("size", "who"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_any_of_them_is_lost(tmp_path: Path, size: int, who: int, number: int) -> None:
    lose(size, who, number, tmp_path, long())


@pytest.mark.slow
def test_what_is_resumed_after_a_kill_is_the_unbroken_run(tmp_path: Path) -> None:
    recipe = plain(**{**EQUAL["all"], "length": steps(30)})
    with job(2, tmp_path / "unbroken", waits, recipe) as running:
        running.end()
    expected = content(only(tmp_path / "unbroken/runs"))
    for trial, who in enumerate((0, 1)):
        folder = tmp_path / str(trial)
        with job(2, folder, waits, recipe) as running:
            running.wait_for(who, f"step {7 + 11 * trial}")
            running.processes[who].kill()
            running.processes[1 - who].join(60)
        run = only(folder / "runs")
        with job(2, folder, goes_on, run.path, recipe) as running:
            running.end()
        assert content(run) == expected
