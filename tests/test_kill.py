"""Real processes, really killed: what is resumed ends as the run that was never stopped."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from pellucid import Recipe, good, resume, steps, train
from pellucid.errors import RunBusy
from pellucid.plan import Duration
from pellucid.recipe import RecordSpec
from pellucid.runs.disk import Disk
from pellucid.runs.listing import all_runs

SAMPLE = int(os.environ.get("PELLUCID_KILLS", "8"))
"""Kills in this test; `PELLUCID_KILLS=200 pytest tests/test_kill.py` is the full run."""


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start with everything imported: they cost no seconds each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pellucid.public"])
    return context


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """A run of about a second on real digits that saves every other step."""
    return good("digits").with_(
        length=steps(40),
        evaluate=Duration.parse("10 steps"),
        batch_size=32,
        record=RecordSpec(every=3, checkpoint=steps(2), keep=steps(10), snapshots=5),
    )


def work(recipe: Recipe, runs: Path) -> None:
    """Start the run in the folder `runs`, or go on with it."""
    found = all_runs(runs)
    if found:
        resume(found[0].path)
    else:
        train(recipe, runs)


def goes_on(processes: ForkServerContext, recipe: Recipe, runs: Path) -> None:
    """Do the `work` to its end, in a process that nobody kills."""
    process = processes.Process(target=work, args=(recipe, runs))
    process.start()
    process.join()
    assert process.exitcode == 0, f"{runs}: it could not be ended"


def content(runs: Path) -> dict[str, bytes]:
    """Return what has to be equal, byte by byte."""
    run = all_runs(runs)[0]
    last = run.checkpoints.path(run.checkpoints.steps()[-1])
    paths = [*last.glob("*.safetensors"), *run.path.glob("predictions/*"), run.metrics]
    paths += [*run.path.glob("snapshots/*"), run.path / "metrics.csv", run.path / "split.csv"]
    assert not list(run.path.rglob(".writing-*")), "a dead save was left behind"
    return {str(path.relative_to(run.path)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def unbroken(
    processes: ForkServerContext, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """What the run leaves that nobody kills, and the seconds that it takes."""
    runs = tmp_path_factory.mktemp("unbroken")
    began = time.perf_counter()
    goes_on(processes, recipe, runs)
    return content(runs), time.perf_counter() - began


def test_killed_at_random_moments(
    processes: ForkServerContext,
    recipe: Recipe,
    unbroken: tuple[dict[str, bytes], float],
    tmp_path: Path,
) -> None:
    expected, seconds = unbroken
    draws = random.Random(0)
    kills = 0
    for trial in range(10 * SAMPLE):
        if kills >= SAMPLE:
            break
        runs = tmp_path / f"{trial}"
        for _ in range(draws.choice([1, 1, 3])):  # some runs are killed several times
            process = processes.Process(target=work, args=(recipe, runs))
            process.start()
            if draws.random() < 0.4:
                _wait_for_a_save(runs, process, draws)
            else:
                process.join(draws.uniform(0.05, 1.0) * seconds)
            process.kill()
            process.join()
            kills += process.exitcode == -signal.SIGKILL
        goes_on(processes, recipe, runs)
        assert content(runs) == expected, f"trial {trial}"
    assert kills >= SAMPLE


def _wait_for_a_save(
    runs: Path,
    process: multiprocessing.Process,
    draws: random.Random,  # type: ignore[name-defined]
) -> None:
    """Return while a checkpoint is being written, most likely."""
    skip = draws.randrange(15)
    while process.is_alive():
        if next(runs.glob("*/checkpoints/.writing-*"), None):
            if skip == 0:
                return
            skip -= 1
            time.sleep(0.005)


@pytest.mark.parametrize("step", [2, 8])
def test_killed_while_a_save_hangs_and_training_has_gone_on(
    processes: ForkServerContext,
    recipe: Recipe,
    unbroken: tuple[dict[str, bytes], float],
    tmp_path: Path,
    step: int,
) -> None:
    """What is written is `step`; the rows on the disk are already those of the next one."""
    process = processes.Process(target=hanging, args=(recipe, tmp_path, step))
    process.start()
    while f"step {step + 1}" not in rows(tmp_path):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    run = all_runs(tmp_path)[0]
    assert [path.name for path in run.path.rglob(".writing-*")] == [f".writing-step-{step:08d}"]
    assert run.checkpoints.steps() == list(range(2, step, 2))[-2:]
    goes_on(processes, recipe, tmp_path)
    assert content(tmp_path) == unbroken[0]


@pytest.mark.parametrize("name", ["predictions/validation.csv", "metrics.csv", "summary.json"])
def test_killed_while_a_file_is_written(
    processes: ForkServerContext,
    recipe: Recipe,
    unbroken: tuple[dict[str, bytes], float],
    tmp_path: Path,
    name: str,
) -> None:
    """Who goes on removes the part of the file that is left beside it."""
    process = processes.Process(target=unnamed, args=(recipe, tmp_path, name))
    process.start()
    file = Path(name)
    while not list(tmp_path.glob(f"*/{file.parent}/.{file.name}.{process.pid}")):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    goes_on(processes, recipe, tmp_path)
    assert content(tmp_path) == unbroken[0]
    left = {path.name for path in all_runs(tmp_path)[0].path.rglob(".*")}
    assert left == {".lock", ".owner.json"}


def unnamed(recipe: Recipe, runs: Path, name: str) -> None:
    """Start the run on a disk that writes the file `name`, but never gives it its name."""
    rename = Disk.rename

    def hang(self: Disk, old: Path, new: Path) -> None:
        if new.match(name):
            threading.Event().wait()
        rename(self, old, new)

    Disk.rename = hang  # type: ignore[method-assign]
    work(recipe, runs)


def hanging(recipe: Recipe, runs: Path, step: int) -> None:
    """Start the run on a disk that takes half of a file of a checkpoint, and then no more."""
    write = Disk.write

    def half(self: Disk, path: Path, data: bytes) -> None:
        if path.parent.name.endswith(f"-step-{step:08d}") and path.name.startswith("optimizer"):
            path.write_bytes(data[: len(data) // 2])
            threading.Event().wait()
        write(self, path, data)

    Disk.write = half  # type: ignore[method-assign]
    work(recipe, runs)


def rows(runs: Path) -> set[str]:
    """Return kind and step of each row of metrics so far."""
    found = [row for run in all_runs(runs) for row in run.rows("metrics.jsonl")]
    return {f"{row['kind']} {row['step']}" for row in found}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(number: int, tmp_path: Path) -> None:
    words = ["train", "--out", str(tmp_path), "--length", "2000 steps", "--batch-size", "16"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pellucid", *words, "--evaluate", "100 steps"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "CI": "true"},
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "step " in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Go on: pellucid resume" in err
    assert "Traceback" not in err
    assert out == ""
    run = all_runs(tmp_path)[0]
    assert run.checkpoints.latest()[0] is not None
    assert run.summary() is None


def test_two_processes_on_one_run(
    processes: ForkServerContext, recipe: Recipe, tmp_path: Path
) -> None:
    process = processes.Process(target=work, args=(recipe.with_(length=steps(5000)), tmp_path))
    process.start()
    while process.is_alive() and not list(tmp_path.glob("*/metrics.jsonl")):
        time.sleep(0.01)
    assert process.is_alive()
    run = all_runs(tmp_path)[0]
    with pytest.raises(RunBusy, match=rf"in use by process {process.pid} on "):
        resume(run.path)
    process.kill()
    process.join()
    with run.locked():  # the lock went with the process
        pass
