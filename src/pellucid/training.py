"""Training a recipe in a run folder: the front door, and the model of a caller of the loop."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from pellucid.assemble import Assembled, assemble
from pellucid.catalogue import check, differences, from_toml, from_tree, read_toml, to_toml, to_tree
from pellucid.checks.data_short import short_check
from pellucid.compiling import compile_report
from pellucid.distributed.group import Alone, Together, connect
from pellucid.distributed.place import job
from pellucid.engine import Engine, EngineSpec
from pellucid.errors import BadRun, DataChanged, RecipeMismatch
from pellucid.finish import finish, result_text
from pellucid.keeper import Keeper, data_facts, level
from pellucid.loop import fit
from pellucid.precision import settle_precision
from pellucid.processes import begun_here, follow, start_together, with_processes
from pellucid.recipe import Recipe
from pellucid.runs.checkpoint import Checkpoint
from pellucid.runs.environment import environment, fingerprint
from pellucid.runs.folder import ENVIRONMENT, LOG, RECIPE, SUMMARY, Run
from pellucid.runs.listing import RUNS, find
from pellucid.runs.tables import split_table
from pellucid.sinks.boards import Boards
from pellucid.sinks.console import Console, count
from pellucid.state import State
from pellucid.stopping import StopSpec
from pellucid.values import Step
from pellucid.watch import Watch

Stop = Callable[[Step], bool]


def never(step: Step) -> bool:
    """Return False: a run goes on to its end."""
    del step
    return False


def train(
    recipe: Recipe,
    runs: str | Path = RUNS,
    *,
    name: str = "",
    sealed: bool = False,
    console: Console | None = None,
    stop: Stop = never,
) -> Run:
    """Train `recipe` in a new folder of `runs`, judge it on the test part, return the run.

    Args:
        recipe: what to train.
        runs: the folder of runs.
        name: of the new folder; time, data and model if left out.
        sealed: leave the test part closed, at the end and after a resume too. Who compares runs
            and chooses among them judges them on validation.
        console: where lines and bars go; none by default.
        stop: asked after each step; when true, the run is saved and left, to be resumed.

    Raises:
        UserError: if the recipe or the data has to change; then no folder is made.
        Diverged: if the loss stops being a number; the last good checkpoint stays.

    >>> import tempfile
    >>> from pellucid import good, steps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(good("digits").with_(length=steps(3)), folder)
    ...     run.summary()["test"]["n"]
    1000
    """
    console = console or Console()
    recipe = _checked(recipe)
    with connect(recipe.engine.timeout) as processes:
        recipe = with_processes(recipe, processes)
        if isinstance(processes, Together) and processes.rank:
            return follow(processes, recipe, stop)
        begun = begun_here(Path(runs))
        if begun:
            console.line(f"{begun.path} was begun by this job; going on with it.")
            return _resume(begun, recipe, processes, console, stop)
        return _start(recipe, Path(runs), name, sealed, processes, console, stop)


def _start(
    recipe: Recipe,
    runs: Path,
    name: str,
    sealed: bool,
    processes: Alone | Together,
    console: Console,
    stop: Stop,
) -> Run:
    """Train `recipe` in a new folder, as the process that owns it."""
    boards = Boards.of(recipe.record.tensorboard, recipe.record.visdom, console.line)
    engine = _engine(recipe, processes, console)
    built = assemble(recipe, engine, console.progress)
    processes.tell("data", "read")
    settle(engine, built, console)
    run = Run.make(runs, name) if name else Run.create(runs, _slug(recipe))
    with run.locked(), console.logging_to(run.path / LOG):
        run.write("split.csv", split_table(built.splits))
        facts = {"data": data_facts(built), "pretrained": built.pretrained, "sealed": sealed}
        facts["job"] = job()
        run.write_json(ENVIRONMENT, {**environment(engine), **facts})
        run.write(RECIPE, to_toml(to_tree(recipe)))  # last: from now on it can be resumed
        return _go(run, recipe, engine, built, None, boards, processes, console, stop)


def resume(
    run: str | Path,
    recipe: Recipe | None = None,
    *,
    console: Console | None = None,
    stop: Stop = never,
) -> Run:
    """Go on with a run from its newest good checkpoint, as if it had never stopped.

    A run that is finished is returned as it is.

    Args:
        run: a path, a name in the folder of runs, or `latest`.
        recipe: needed only if parts of it were given from Python; else the run's own.
        console: where lines and bars go; none by default.
        stop: asked after each step; when true, the run is saved and left.

    Raises:
        RecipeMismatch: if the recipe is not the one that the checkpoint was made with.
        DataChanged: if the data is not what the run was started on.
        RunBusy: if another process is training it.
    """
    console = console or Console()
    with connect(EngineSpec().timeout) as processes:
        if isinstance(processes, Together) and processes.rank:
            return follow(processes, recipe, stop)
        return _resume(find(run), recipe, processes, console, stop)


def _resume(
    opened: Run,
    recipe: Recipe | None,
    processes: Alone | Together,
    console: Console,
    stop: Stop,
) -> Run:
    """Go on with a run, as the process that owns its folder."""
    with opened.locked(), console.logging_to(opened.path / LOG):
        if opened.summary():
            console.line(f"{opened.path} is finished; nothing to resume.")
            processes.tell("recipe", "")
            return opened
        recipe = _checked(recipe or from_tree(read_toml(opened.path / RECIPE), RECIPE))
        boards = Boards.of(recipe.record.tensorboard, recipe.record.visdom, console.line)
        processes.limit(recipe.engine.timeout)
        engine = _engine(recipe, processes, console)
        checkpoint, problems = opened.checkpoints.latest()
        if checkpoint is None and problems:
            raise BadRun(
                f"No checkpoint of {opened.path} verifies, so nothing was touched:\n  "
                + "\n  ".join(problems)
                + f"\nRestore one, or start anew: pellucid train --recipe {opened.path / RECIPE}"
            )
        for problem in problems:
            console.line(f"warning: {problem} Falling back to an earlier checkpoint.")
        if checkpoint:
            _check_recipe(checkpoint, recipe)
        built = assemble(recipe, engine, console.progress, start=checkpoint is None)
        processes.tell("data", "read")
        _check_environment(opened, engine, built, console)
        if checkpoint:  # as it was settled when the run started
            engine.precision = checkpoint.facts.get("engine", {}).get("precision", "fp32")
            console.line(f"precision: {engine.precision}")
        else:
            settle(engine, built, console)
        return _go(opened, recipe, engine, built, checkpoint, boards, processes, console, stop)


def _go(
    run: Run,
    recipe: Recipe,
    engine: Engine,
    built: Assembled,
    checkpoint: Checkpoint | None,
    boards: Boards,
    processes: Alone | Together,
    console: Console,
    stop: Stop,
) -> Run:
    """Train from `checkpoint`, or from the start, to the end of the plan; then judge."""
    state, task = built.state, built.task
    with Watch(run, recipe, engine, built, boards, console) as watch:
        if checkpoint:
            state.load(checkpoint.tensors, checkpoint.facts)
        watch.start(checkpoint.facts["recorder"] if checkpoint else None)
        _introduce(run, engine, built, console)
        with Keeper(run, recipe, engine, built, watch.recorder, console) as keeper:
            keeper.snapshot()
            processes.join(engine.device)
            start_together(engine, built, recipe, run.path)

            def look(step: Step) -> bool:
                began = time.perf_counter()
                watch(step)
                keeper.snapshot()
                watch.recorder.overhead += time.perf_counter() - began
                return stop(step)

            for step in fit(state, task, engine):
                asked = engine.agree(functools.partial(look, step))  # a failure here ends all
                stopped = asked and state.step < task.plan.steps and not state.stop.now
                began = time.perf_counter()
                keeper.save_if_due(stopped)
                watch.recorder.overhead += time.perf_counter() - began
                if stopped:
                    told = f"Go on: pellucid resume {run.path}"
                    console.line(f"stopped after step {state.step}. {told}")
                    return run
        if state.stop.now and state.step < task.plan.steps:
            console.line(f"early stop after step {state.step:,}: {_why(recipe, state)}")
        judged = _without_test(built) if (run.read_json(ENVIRONMENT) or {}).get("sealed") else built
        summary, validation = finish(run, engine, judged, watch.recorder.tax, console)
        findings = watch.conclude(validation)
        summary["diagnosis"] = [{"name": f.name, "severity": f.severity} for f in findings]
        run.write_json(SUMMARY, summary)
        text = result_text(summary)
        console.log(text)
        watch.result(text)
    return run


def _engine(recipe: Recipe, processes: Alone | Together, console: Console) -> Engine:
    """Start the engine of the process that owns the run, and let the others start theirs."""
    engine = Engine.start(recipe.engine, processes)
    processes.tell("recipe", to_toml(to_tree(recipe)))
    console.line(f"device: {engine.name}")
    if processes.size > 1:
        console.line(f"processes: {processes.size}; lost after {recipe.engine.timeout:g} s")
    return engine


def _without_test(built: Assembled) -> Assembled:
    """Return `built` with an empty test part: nothing is predicted on it."""
    splits = built.splits
    empty = splits.test.part(torch.empty(0, dtype=torch.int64))
    return replace(built, splits=replace(splits, test=empty))


def settle(engine: Engine, built: Assembled, console: Console) -> None:
    """Settle the precision on the first batch of the run, and say what was found."""
    task, model = built.task, built.state.model
    batch = built.first(engine)
    console.line(settle_precision(engine, model, batch.images))
    report = compile_report(engine, model, batch, task.loss, task.plan.steps)
    if report:
        console.line(report)


def _why(recipe: Recipe, state: State) -> str:
    stop = recipe.stop
    if not isinstance(stop, StopSpec):
        return "the recipe's own rule"
    by = f" by more than {stop.min_change:g}" if stop.min_change else ""
    return (
        f"the validation {stop.watch} got no better{by} in {count(stop.patience, 'evaluation')} in "
        f"a row. The best checkpoint by validation accuracy, step {state.best.step:,}, is kept."
    )


def _checked(recipe: Recipe) -> Recipe:
    """Check a recipe that was made in Python by the rules of a file; parts of one's own pass."""
    check(to_tree(recipe))
    return recipe


def _slug(recipe: Recipe) -> str:
    tree = to_tree(recipe)
    data = Path(tree["data"].get("path", "")).stem or tree["data"].get("name", "data")
    return f"{data}-{tree['model'].get('name', 'model')}".replace(" ", "-")


def _check_recipe(checkpoint: Checkpoint, recipe: Recipe) -> None:
    before, now = from_toml(checkpoint.facts["recipe"]), to_tree(recipe)
    for tree in (before, now):
        for board in ("tensorboard", "visdom"):  # another board changes no number
            tree["record"].pop(board, None)
        for key in ("name", "procs", "workers", "timeout"):  # another number of processes is said
            tree["engine"].pop(key, None)
    changed = differences(before, now)
    if changed:
        lines = "\n  ".join(changed)
        raise RecipeMismatch(
            f"The recipe is not the one that {checkpoint.path} was made with:\n  {lines}\n"
            "Undo the change in recipe.toml, or start a new run with it: "
            "pellucid train --recipe FILE.toml"
        )


def _check_environment(run: Run, engine: Engine, built: Assembled, console: Console) -> None:
    before = run.read_json(ENVIRONMENT)
    stored = str((before or {}).get("data", {}).get("data_digest", ""))
    if before is None or not stored:
        raise BadRun(
            f"{run.path / ENVIRONMENT} is missing or lacks the digest of the data, so nobody can "
            "tell whether this is the same data. Restore the file, or start a new run."
        )
    table = built.splits.relabelled
    before_table = before["data"].get("relabelled") or {}
    if table and table.sha256 != before_table.get("sha256", table.sha256):
        raise DataChanged(
            f"{table.file} (--data.relabel) has changed since {run.path} was started. Restore it, "
            "or start a new run with it."
        )
    digest = built.splits.digest
    if stored != digest:
        raise DataChanged(
            f"The data of {run.path} has changed since the run was started (digest "
            f"{stored[:16]}, now {digest[:16]}). Restore it, or start a new run."
        )
    if built.splits.random:
        raise DataChanged(
            "Reading this data set draws random numbers, so it is another one each time: an exact "
            "resume is not possible. Move the random part into the recipe's augmentation."
        )
    now = environment(engine)
    run.write_json(ENVIRONMENT, {**before, "resumed": [*before.get("resumed", []), now]})
    changed = differences(fingerprint(before), fingerprint(now))
    if changed:
        console.line(f"note: not bitwise the same run any more: {'; '.join(changed)}")


def _introduce(run: Run, engine: Engine, built: Assembled, console: Console) -> None:
    splits, plan, state = built.splits, built.task.plan, built.state
    parameters = sum(p.numel() for p in state.model.parameters())
    channels, height, width = splits.train.shape
    console.line(f"run: {run.path}")
    for note in splits.notes:
        console.line(f"note: {note}")
    if not state.step:
        for note in short_check(splits):
            console.line(f"note: {note}")
    console.line(
        f"data: {len(splits.train):,} training, {len(splits.validation):,} validation, "
        f"{len(splits.test):,} test images, {channels}x{height}x{width}, "
        f"{len(splits.train.classes)} classes"
    )
    console.line(
        f"model: {type(state.model).__name__}, {parameters:,} parameters; "
        f"{count(plan.steps, 'step')} in {count(plan.epoch(plan.steps), 'epoch')}; "
        f"repeatable: {level(engine, built)}"
    )
    if state.step:
        console.line(f"resumed after step {state.step:,}")
