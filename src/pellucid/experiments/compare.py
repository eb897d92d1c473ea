"""A comparison: the same seeds, weights, batches and draws for every arm; then a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.catalogue import to_toml, to_tree
from pellucid.data.split import split
from pellucid.errors import BadData, BadRecipe
from pellucid.experiments.arms import Arm, distinct
from pellucid.experiments.folder import RESULT, Experiment
from pellucid.experiments.results import rates_of, summarise
from pellucid.experiments.tune import tuned
from pellucid.experiments.work import (
    Asked,
    Job,
    check_asked,
    nobody,
    run_all,
    threads_for,
    with_threads,
)
from pellucid.figures.comparison import differences, lines
from pellucid.figures.render import png
from pellucid.recipe import Recipe
from pellucid.runs.folder import ENVIRONMENT, METRICS, RECIPE, Run
from pellucid.sinks.console import Console


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how.

    Args:
        arms: at least two, different; the first one is what the others are compared with.
        seeds: how often each is trained: seeds 0, 1, ..., counted from that of the recipe.
        on: `validation`, or `test`: then the sealed part is opened once at the end of each run.
        tune_lr: learning rates that are tried for each arm first, on validation; 0 tries none.
        jobs: runs side by side.
    """

    arms: Sequence[Arm]
    seeds: int = 3
    on: str = "validation"
    tune_lr: int = 0
    jobs: int = 1


def compare(
    comparison: Comparison,
    title: str,
    path: Path | None = None,
    *,
    console: Console | None = None,
    asked: Asked = nobody,
) -> tuple[Experiment, dict[str, Any]]:
    """Train all arms with all seeds, compare them, and keep everything in one folder.

    The named random streams make the runs of one seed pairs: the same split, the same order of
    images, the same draws, and the same first weights where the model is the same. Called again
    it goes on where it was; runs that are finished are not repeated, seeds may be added.

    Args:
        comparison: what is compared.
        title: what a person calls it; names the folder.
        path: the folder; else one is named by title and content.
        console: told of each run that ends.
        asked: whether the user asked to stop.

    Raises:
        Stopped: if the user stopped.
        UserError: if an arm cannot be trained, or two arms have different data.
    """
    console = console or Console()
    arms = distinct(comparison.arms)
    _check_seeds(comparison)
    _check_schedules(arms)
    check_asked([arm.recipe for arm in arms], comparison.jobs)
    definition = {
        "kind": "compare",
        "on": comparison.on,
        "tune_lr": comparison.tune_lr,
        "arms": [{"name": arm.name, "recipe": to_tree(arm.recipe)} for arm in arms],
    }
    experiment = Experiment.at(path, title, definition)
    with experiment.locked():
        threads = experiment.threads(threads_for(comparison.jobs))
        arms = [Arm(arm.name, with_threads(arm.recipe, threads)) for arm in arms]
        _check_data(arms, console)
        console.line(f"experiment: {experiment.path}")
        tuning: dict[str, Any] = {}
        if comparison.tune_lr:
            arms, tuning = tuned(
                experiment, arms, comparison.tune_lr, comparison.jobs, console, asked
            )
        jobs = {
            (arm.name, seed): Job(
                f"{arm.name}/seed-{seed}", arm.recipe.with_(seed=seed), comparison.on != "test"
            )
            for seed in _seeds(arms, comparison.seeds)  # a seed of all arms before the next seed
            for arm in arms
        }
        for arm in arms:
            experiment.write_bytes(f"{arm.name}/{RECIPE}", to_toml(to_tree(arm.recipe)).encode())
        runs = run_all(experiment, list(jobs.values()), comparison.jobs, console, asked)
        found = {key: runs[job.name] for key, job in jobs.items() if job.name in runs}
        _same_data(found)
        summary = summarise(arms, found, comparison.on)
        summary |= {"experiment": str(experiment.path), "kind": "compare", "title": title}
        summary |= {"tuning": tuning, "failed": experiment.failures()}
        experiment.write(RESULT, summary)
        _figures(experiment, arms, found, summary)
    return experiment, summary


def _check_seeds(comparison: Comparison) -> None:
    if comparison.seeds < 1:
        raise BadRecipe(f"--seeds must be at least 1. Got {comparison.seeds}.")
    if comparison.on == "validation":
        for arm in comparison.arms:
            if not arm.recipe.data.validation and arm.recipe.fold is None:
                raise BadRecipe(
                    "The arms are compared on validation images, and data.validation is 0. Set it "
                    "above 0, or open the test part for the comparison: --test"
                )


def _check_schedules(arms: Sequence[Arm]) -> None:
    """Refuse a schedule that does not fit the length of its run, before the first one trains.

    A length that is not in epochs needs the data to be known in steps; its run says it.
    """
    for arm in arms:
        recipe = arm.recipe
        if recipe.length.unit != "epochs":
            continue
        per_epoch = 1000  # in proportion: any number will do
        try:
            recipe.schedule.build(recipe.optimizer.lr, recipe.length.steps(per_epoch), per_epoch)
        except ValueError as error:
            raise BadRecipe(f"The arm {arm.name} cannot be trained: {error}.") from None


def _seeds(arms: Sequence[Arm], count: int) -> range:
    first = arms[0].recipe.seed
    return range(first, first + count)


def _check_data(arms: Sequence[Arm], console: Console) -> None:
    """Refuse arms on different images before anything is trained.

    Raises:
        BadData: with both fingerprints.
    """
    trees = [to_tree(arm.recipe) for arm in arms]
    if all(
        (tree["data"], tree.get("fold")) == (trees[0]["data"], trees[0].get("fold"))
        for tree in trees
    ):
        return  # read once, when the first of them trains
    digests = [_digest(arm.recipe, console) for arm in arms]
    for arm, digest in zip(arms, digests, strict=True):
        if digest != digests[0]:
            raise _different(arms[0].name, digests[0], arm.name, digest)


def _digest(recipe: Recipe, console: Console) -> str:
    data = recipe.data
    loaded = data.load(console.progress)
    return split(loaded, data.validation, data.test, recipe.seed, recipe.fold).digest


def _same_data(runs: dict[tuple[str, int], Run]) -> None:
    """Raise if runs of one seed had different data: files may have changed meanwhile."""
    seen: dict[int, tuple[str, str]] = {}
    for (name, seed), run in runs.items():
        digest = str((run.read_json(ENVIRONMENT) or {})["data"]["data_digest"])
        other = seen.setdefault(seed, (digest, name))
        if other[0] != digest:
            raise _different(other[1], other[0], name, digest)


def _different(a: str, digest_a: str, b: str, digest_b: str) -> BadData:
    return BadData(
        f"{a} and {b} have different images (fingerprints {digest_a[:16]} and {digest_b[:16]}), so "
        "a difference between them would say nothing of what is compared. Vary something else "
        "than the data, or train them apart and look at each by itself."
    )


def _figures(
    experiment: Experiment,
    arms: Sequence[Arm],
    runs: dict[tuple[str, int], Run],
    summary: dict[str, Any],
) -> None:
    """Draw the curves of all arms, and the differences, each with its numbers beside it."""
    courses = {
        arm.name: [run.rows(METRICS) for (name, _), run in runs.items() if name == arm.name]
        for arm in arms
    }
    courses = {name: rows for name, rows in courses.items() if rows}
    if not courses:
        return
    title = str(summary["title"])
    firsts = {name: run for (name, _), run in reversed(runs.items())}
    rates = {arm.name: rates_of(firsts[arm.name], arm.recipe) for arm in arms if arm.name in firsts}
    picture = png(lines(courses, rates, title))
    experiment.write_figure("curves", picture, {"courses": courses, "rates": rates})
    found = summary["differences"]
    if found:
        experiment.write_figure(
            "differences", png(differences(found, title)), {"differences": found}
        )
