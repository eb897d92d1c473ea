"""A search for good settings with Optuna, on validation images alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pellucid.catalogue import from_tree, overlay, to_toml, to_tree
from pellucid.errors import BadRecipe, Diverged, MissingExtra
from pellucid.experiments.folder import RESULT, Experiment
from pellucid.experiments.space import Param, settings
from pellucid.experiments.work import (
    Asked,
    RunConsole,
    Stopped,
    check_asked,
    nobody,
    threads_for,
    with_threads,
)
from pellucid.figures.render import png
from pellucid.figures.search import search_figure
from pellucid.recipe import Recipe
from pellucid.runs.folder import Run
from pellucid.seeds import derive
from pellucid.sinks.console import Console
from pellucid.training import resume, train
from pellucid.values import Step

if TYPE_CHECKING:
    import optuna

JOURNAL, BEST = "study.journal", "best.toml"
STARTUP = 5
"""Trials that are never cut short: until then there is no median to be below."""


def sweep(
    recipe: Recipe,
    params: Sequence[Param],
    trials: int,
    title: str,
    path: Path | None = None,
    *,
    console: Console | None = None,
    asked: Asked = nobody,
) -> tuple[Experiment, dict[str, Any]]:
    """Search for the settings with the best validation accuracy; write the best recipe.

    The settings of a trial are proposed by TPE (Bergstra et al. 2011), by what the trials before
    came to; trial k draws from the stream (seed, "sweep", k). A trial whose best accuracy so far
    is below the median of the others at that step is cut short. The study is a journal file:
    the same command in a second terminal works on the same study, and given again it goes on
    where it was, trials that were killed included. The test part stays closed.

    Args:
        recipe: everything that is not searched.
        params: what is.
        trials: in all, those of earlier calls included.
        title: what a person calls it; names the folder.
        path: the folder; else one is named by title and content.
        console: told of each trial that ends.
        asked: whether the user asked to stop.

    Raises:
        MissingExtra: without Optuna.
        Stopped: if the user stopped.
        UserError: if a setting is unknown, or the data or recipe has to change.
    """
    console = console or Console()
    _check(recipe, params, trials)
    check_asked([recipe])
    space = [asdict(param) | {"choices": list(param.choices)} for param in params]
    definition = {"kind": "sweep", "recipe": to_tree(recipe), "params": space}
    study_of = _optuna()
    experiment = Experiment.at(path, title, definition)
    console.line(f"experiment: {experiment.path}")
    recipe = with_threads(recipe, experiment.threads(threads_for(1)))
    study = study_of(experiment.path / JOURNAL)
    while taken := _take(experiment, study, trials, recipe.seed):
        trial, lock = taken
        try:
            _work(experiment, study, trial, recipe, params, trials, console, asked)
        finally:
            lock.release()
    with FileLock(experiment.path / ".summary.lock"):  # another process may end just now, too
        summary = summarise(study, recipe, params)
        summary |= {"experiment": str(experiment.path), "kind": "sweep", "title": title}
        experiment.write(RESULT, summary)
        if summary["best"]:
            chosen = overlay(to_tree(recipe), settings(summary["best"]["params"]))
            experiment.write_bytes(BEST, to_toml(chosen).encode())
            figure = search_figure(summary["trials"], summary["importance"], title)
            experiment.write_figure("search", png(figure), summary)
    return experiment, summary


def summarise(study: optuna.Study, recipe: Recipe, params: Sequence[Param]) -> dict[str, Any]:
    """Return what a search found, for JSON: all trials, the best one, what mattered."""
    trials: list[dict[str, Any]] = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "params": dict(trial.params),
            "accuracy": trial.value if trial.state.name == "COMPLETE" else None,
            "steps": max(trial.intermediate_values, default=0),
            "best_so_far": max(trial.intermediate_values.values(), default=None),
        }
        for trial in study.trials
    ]
    whole = [trial for trial in trials if trial["accuracy"] is not None]
    best = max(whole, key=lambda trial: (trial["accuracy"], -trial["number"]), default=None)
    return {
        "trials": trials,
        "best": best,
        "importance": _importance(study, params, len(whole)),
        "seed": recipe.seed,
    }


def _check(recipe: Recipe, params: Sequence[Param], trials: int) -> None:
    if not params:
        raise BadRecipe("A search needs something to choose: --param optimizer.lr=log:1e-4..1e-1")
    if trials < 1:
        raise BadRecipe(f"--trials must be at least 1. Got {trials}.")
    keys = [param.key for param in params]
    for key in keys:
        if keys.count(key) > 1:
            raise BadRecipe(f"--param {key} is given twice. Give it once, with all its values.")
        if key.split(".")[0] in ("data", "fold", "seed", "record", "engine"):
            raise BadRecipe(
                f"--param {key} cannot be searched: with other data or seeds the scores would not "
                "be comparable. Search settings of the model, the optimizer or the augmentation."
            )
    if not recipe.data.validation and recipe.fold is None:
        raise BadRecipe("A search needs validation images: set --data.validation above 0.")
    ends = {param.key: _ends(param) for param in params}
    first = {key: values[0] for key, values in ends.items()}
    for key, values in ends.items():  # so that a mistake shows before any trial
        for value in values:
            with_it = overlay(to_tree(recipe), settings({**first, key: value}))
            if value == values[0] or not key.endswith(".name"):
                from_tree(with_it, f"--param {key}")
            else:  # the other settings may be those of the first choice
                from_tree(overlay(to_tree(recipe), settings({key: value})), f"--param {key}")


def _ends(param: Param) -> Sequence[Any]:
    """Return both ends of a range, or all choices."""
    if param.choices:
        return param.choices
    return [int(end) if param.whole else end for end in (param.low, param.high)]


def _optuna() -> Any:
    """Return a function from the place of a journal to its study.

    Raises:
        MissingExtra: without Optuna.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise MissingExtra(
            "A search needs Optuna, which is not installed: pip install 'pellucid[sweep]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def study(journal: Path) -> optuna.Study:
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name="sweep",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
            load_if_exists=True,
        )

    return study


def _take(
    experiment: Experiment, study: optuna.Study, count: int, seed: int
) -> tuple[optuna.Trial, FileLock] | None:
    """Return a trial to work on, and its lock, held: first one that was killed; None at the end.

    Processes that share the study take one after the other: a trial that was asked for and is not
    locked yet would look like one that was killed.
    """
    import optuna

    with FileLock(experiment.path / ".trials.lock"):
        for known in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            lock = FileLock(experiment.path / f".{_name(known.number)}.lock")
            with contextlib.suppress(Timeout):  # another process is at it
                lock.acquire(timeout=0)
                return optuna.Trial(study, known._trial_id), lock
        done = len(study.get_trials(deepcopy=False))
        if done >= count:
            return None
        study.sampler = optuna.samplers.TPESampler(seed=derive(seed, "sweep", done) % 2**32)
        trial = study.ask()
        lock = FileLock(experiment.path / f".{_name(trial.number)}.lock")
        lock.acquire()
        return trial, lock


def _work(
    experiment: Experiment,
    study: optuna.Study,
    trial: optuna.Trial,
    base: Recipe,
    params: Sequence[Param],
    trials: int,
    console: Console,
    asked: Asked,
) -> None:
    """Train one trial to its end, or until it is cut short, and tell the study."""
    import optuna

    chosen = {param.key: _suggest(trial, param) for param in params}
    shown = ", ".join(f"{key} {_short(value)}" for key, value in chosen.items())
    head = f"[{trial.number + 1}/{trials}] {shown}"
    try:
        recipe = from_tree(overlay(to_tree(base), settings(chosen)), head)
    except BadRecipe as error:  # these values do not go together
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        console.line(f"{head}: failed: {error}")
        return
    known = set(study.trials[trial.number].intermediate_values)
    cut = False

    def stop(step: Step) -> bool:
        nonlocal cut
        if step.evaluation and step.index not in known:
            trial.report(step.evaluation.validation.accuracy, step.index)
            cut = trial.should_prune()
        return cut or asked()

    own = RunConsole(console.stream, console.live, f"trial {trial.number}")
    try:
        run = _train(experiment, _name(trial.number), recipe, own, stop)
    except Diverged as error:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        console.line(f"{head}: failed: {str(error).split('. ')[0]}.")
        return
    finally:
        own.close()
    summary = run.summary()
    if summary:
        study.tell(trial, summary["validation"]["accuracy"])
        console.line(f"{head}: validation {100 * summary['validation']['accuracy']:.2f} %")
    elif cut:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        console.line(f"{head}: cut short, below the median of the others")
    else:
        raise Stopped


def _train(experiment: Experiment, name: str, recipe: Recipe, console: Console, stop: Any) -> Run:
    if experiment.run(name):
        return resume(experiment.path / name, recipe, console=console, stop=stop)
    return train(recipe, experiment.path, name=name, sealed=True, console=console, stop=stop)


def _suggest(trial: optuna.Trial, param: Param) -> Any:
    if param.choices:
        return trial.suggest_categorical(param.key, param.choices)
    if param.whole:
        return trial.suggest_int(param.key, int(param.low), int(param.high), log=param.log)
    return trial.suggest_float(param.key, param.low, param.high, log=param.log)


def _importance(study: optuna.Study, params: Sequence[Param], whole: int) -> dict[str, float]:
    """Return the share of each setting in what makes good trials good; empty if nobody can tell.

    PED-ANOVA (Watanabe et al. 2023): how much the values of the best tenth differ from the rest.
    """
    import optuna

    if whole < 4 or len(params) < 2:
        return {}
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    except (ValueError, RuntimeError):  # trials that failed left too few values to compare
        return {}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _name(number: int) -> str:
    return f"trial-{number:03d}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
