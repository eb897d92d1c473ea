"""Training the runs of an experiment: one after the other, or several side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import IO, Any

import msgspec

from pellucid.catalogue import from_toml, from_tree, to_toml, to_tree
from pellucid.errors import BadCheckpoint, BadRecipe, Diverged, SaveFailed
from pellucid.experiments.folder import FAILURES, Experiment
from pellucid.limits import usable_cores
from pellucid.recipe import Recipe
from pellucid.runs.folder import Run
from pellucid.sinks.console import Console, percent
from pellucid.training import Stop, resume, train
from pellucid.values import Step


@dataclass(frozen=True)
class Job:
    """One run of an experiment.

    Args:
        name: its folder within that of the experiment, such as `adam/seed-0`.
        recipe: what it trains.
        sealed: the test part stays closed.
    """

    name: str
    recipe: Recipe
    sealed: bool = True


Asked = Callable[[], bool]


def nobody() -> bool:
    """Return False: nobody asked to stop."""
    return False


class Stopped(Exception):
    """The user stopped the experiment; what was trained is kept."""


class RunConsole(Console):
    """The console of one run among many: its lines go to its own log, only bars are shown."""

    def __init__(self, stream: IO[str] | None, live: bool, label: str) -> None:
        super().__init__(stream, live)
        self.label = label

    def line(self, text: str = "") -> None:
        """Keep the line in the run's log."""
        self.log(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show a bar in a terminal, and nothing elsewhere."""
        if self.live:
            super().progress(f"{self.label}: {what}", done, total)


def check_asked(recipes: Sequence[Recipe], jobs: int = 1) -> None:
    """Refuse runs that an experiment cannot train, before its folder is made.

    Raises:
        BadRecipe: if none are to run side by side, or one of them needs several processes.
    """
    if jobs < 1:
        raise BadRecipe(f"--jobs must be at least 1: runs side by side. Got {jobs}.")
    procs = max((recipe.engine.size for recipe in recipes), default=1)
    if procs > 1:
        raise BadRecipe(
            f"The engine is to start {procs} processes, and an experiment trains each run in one "
            "process. For runs side by side: --jobs N"
        )


def threads_for(jobs: int) -> int:
    """Return the CPU threads that each of `jobs` runs side by side gets; at least 1."""
    return max(1, len(usable_cores()) // jobs)


def with_threads(recipe: Recipe, threads: int) -> Recipe:
    """Return `recipe` with this number of CPU threads, unless it says one itself.

    All runs that are compared need the same number, since it decides the last bits.
    """
    if recipe.engine.threads:
        return recipe
    return recipe.with_(engine=msgspec.structs.replace(recipe.engine, threads=threads))


def run_all(
    experiment: Experiment,
    jobs: Sequence[Job],
    side_by_side: int = 1,
    console: Console | None = None,
    asked: Asked = nobody,
) -> dict[str, Run]:
    """Train the runs that are not finished yet; return those that are, by name.

    A run that was begun goes on where it was. One that fails (its loss stops being a number) is
    written down and not tried again; the others go on.

    Args:
        experiment: whose folder the runs nest in.
        jobs: all its runs, in order.
        side_by_side: how many train at a time, each in a process with cores of its own.
        console: told of each run that ends.
        asked: whether the user asked to stop; then all is saved and left.

    Raises:
        Stopped: if the user stopped.
        UserError: if a recipe or the data has to change.
    """
    console = console or Console()
    finished: dict[str, Run] = {}
    failed = experiment.failures()
    todo = []
    for job in jobs:
        run = experiment.run(job.name)
        if run and run.summary():
            finished[job.name] = run
        elif job.name not in failed:
            todo.append(job)
    if finished:
        console.line(f"{len(finished)} of {len(jobs)} runs are finished already")
    if side_by_side == 1:
        ended = _one_by_one(experiment, todo, console, asked)
    else:
        ended = _side_by_side(experiment, todo, side_by_side, console, asked)
    for job, problem in ended:
        done = len(finished) + len(failed) + 1
        head = f"[{done}/{len(jobs)}] {job.name}"
        if problem:
            failed[job.name] = problem
            experiment.write(FAILURES, failed)
            console.line(f"{head}: failed: {problem}")
            continue
        run = finished[job.name] = Run.open(experiment.path / job.name)
        console.line(f"{head}: {_said(run)}")
    return {job.name: finished[job.name] for job in jobs if job.name in finished}


def _said(run: Run) -> str:
    summary = run.summary() or {}
    parts = [
        f"{part} {percent(summary[part]['correct'], summary[part]['n'])}"
        for part in ("validation", "test")
        if summary.get(part)
    ]
    return ", ".join([*parts, f"{summary.get('seconds', 0):.0f} s"])


Ended = Iterator[tuple[Job, str]]


def _one_by_one(
    experiment: Experiment, jobs: Sequence[Job], console: Console, asked: Asked
) -> Ended:
    for job in jobs:
        own = RunConsole(console.stream, console.live, job.name)
        try:
            problem = _one(experiment.path, job, own, lambda step: asked())
        finally:
            own.close()
        yield job, problem


def _one(folder: Path, job: Job, console: Console, stop: Stop) -> str:
    """Train or go on with one run; return what went wrong, or nothing."""
    place = folder / job.name
    try:
        if Experiment(folder).run(job.name):
            run = resume(place, job.recipe, console=console, stop=stop)
        else:
            run = train(
                job.recipe, place.parent, name=place.name, sealed=job.sealed,
                console=console, stop=stop,
            )  # fmt: skip
    except (Diverged, BadCheckpoint, SaveFailed) as error:
        return str(error).splitlines()[0]
    if not run.summary():
        raise Stopped
    return ""


def _side_by_side(
    experiment: Experiment, jobs: Sequence[Job], side_by_side: int, console: Console, asked: Asked
) -> Ended:
    """Train in processes of their own, while this one waits.

    Raises:
        BadRecipe: if a part was given from Python, which no other process can build.
    """
    context = multiprocessing.get_context("spawn")  # a fork of threads that hold locks may hang
    shares = context.Queue()
    leave = context.Event()
    own = usable_cores()
    width = max(1, len(own) // side_by_side)
    for number in range(side_by_side):
        start = number * width % len(own)
        shares.put(own[start : start + width])
    pool = ProcessPoolExecutor(side_by_side, context, _begin, (shares, leave))
    try:
        waiting: dict[Future[str], Job] = {}
        for job in jobs:
            tree = to_tree(job.recipe)
            for section, value in tree.items():
                if isinstance(value, dict) and "python" in value:
                    raise BadRecipe(
                        f"{section} was given from Python ({value['python']}): such a recipe "
                        "trains in this process only. Leave out jobs."
                    )
            text = to_toml(tree)
            waiting[pool.submit(_elsewhere, str(experiment.path), job.name, text, job.sealed)] = job
        while waiting:
            if asked():
                leave.set()
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()
            console.progress("runs", len(jobs) - len(waiting), len(jobs))
    finally:
        leave.set()
        pool.shutdown(wait=True, cancel_futures=True)


class _Here:
    """What a process of the pool knows; `_begin` sets it."""

    leave: Any
    orphan = threading.Event()
    working = threading.Lock()


def _begin(shares: Any, leave: Any) -> None:
    """Start a process of the pool: cores of its own, and signals are left to the parent."""
    _Here.leave = leave
    threading.Thread(target=_outlived, daemon=True).start()
    share = shares.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _outlived() -> None:
    """End this process when its parent was killed; a run that is under way is saved first."""
    parent = multiprocessing.parent_process()
    assert parent
    connection.wait([parent.sentinel])
    _Here.orphan.set()
    with _Here.working:
        os._exit(1)  # the pool would wait for more work for ever


def _elsewhere(folder: str, name: str, recipe: str, sealed: bool) -> str:
    """Do one job in a process of the pool."""

    def stop(step: Step) -> bool:
        del step
        return bool(_Here.leave.is_set() or _Here.orphan.is_set())

    if _Here.leave.is_set():
        raise Stopped
    job = Job(name, from_tree(from_toml(recipe)), sealed)
    with _Here.working:
        return _one(Path(folder), job, Console(), stop)
