"""A comparison: the same seeds, weights, batches and draws for every arm; then a verdict."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pellucid.catalogue import from_toml, to_toml, to_tree
from pellucid.data.split import split
from pellucid.errors import BadData, BadRecipe
from pellucid.experiments.arms import Arm, distinct
from pellucid.experiments.folder import RESULT, Experiment
from pellucid.experiments.tune import tuned
from pellucid.experiments.work import Asked, Job, nobody, run_all, threads_for, with_threads
from pellucid.figures.comparison import differences, lines
from pellucid.metrics.replicates import LEVEL, Answers, Replicated, holm, replicated
from pellucid.runs.folder import ENVIRONMENT, METRICS, RECIPE, TIMING, Run
from pellucid.runs.predictions import read_predictions
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
    definition = {
        "kind": "compare",
        "on": comparison.on,
        "tune_lr": comparison.tune_lr,
        "arms": [{"name": arm.name, "recipe": to_tree(arm.recipe)} for arm in arms],
    }
    experiment = Experiment.at(path, title, finite(definition))
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


def summarise(
    arms: Sequence[Arm], runs: dict[tuple[str, int], Run], on: str = "validation"
) -> dict[str, Any]:
    """Return the numbers of a comparison, for JSON.

    Args:
        arms: in order; the first is what the others are compared with.
        runs: finished ones, by arm and seed.
        on: the part on whose images the arms are compared.
    """
    table = {
        arm.name: _arm({seed: run for (name, seed), run in runs.items() if name == arm.name}, on)
        for arm in arms
    }
    base = arms[0].name
    compared: dict[str, Replicated] = {}
    for arm in arms[1:]:
        both = sorted({s for n, s in runs if n == arm.name} & {s for n, s in runs if n == base})
        if both:
            compared[arm.name] = replicated(
                [_answers(runs[base, seed], on) for seed in both],
                [_answers(runs[arm.name, seed], on) for seed in both],
            )
    corrected = holm([found.p for found in compared.values()])
    pairs = [
        {
            "arm": name,
            "against": base,
            **asdict(found),
            "interval": list(found.interval),
            "p_corrected": p,
        }
        for (name, found), p in zip(compared.items(), corrected, strict=True)
    ]
    return {
        "on": on,
        "against": base,
        "arms": table,
        "differences": pairs,
        "verdicts": [verdict(pair) for pair in pairs],
    }


def verdict(pair: dict[str, Any]) -> str:
    """Return what a difference says, in a sentence."""
    arm, base, value = pair["arm"], pair["against"], 100 * pair["value"]
    low, high = (100 * end for end in pair["interval"])
    seeds = f"{pair['seeds']} seed{'s' * (pair['seeds'] > 1)}"
    facts = (
        f"{value:+.2f} points (95 %: {low:+.2f} to {high:+.2f}), p = {pair['p_corrected']:.2g}, "
        f"{seeds}, n = {pair['n']:,}"
    )
    if pair["p_corrected"] > LEVEL:
        return f"No difference shown between {arm} and {base}: {facts}."
    only = " For this one seed; other seeds were not asked." if pair["seeds"] == 1 else ""
    return f"{arm} is {'better' if value > 0 else 'worse'} than {base}: {facts}.{only}"


def _arm(runs: dict[int, Run], on: str) -> dict[str, Any]:
    """Return what the runs of one arm came to."""
    summaries = {seed: run.summary() or {} for seed, run in runs.items()}
    scores = {seed: summary[on] for seed, summary in summaries.items()}
    accuracy = [score["accuracy"] for score in scores.values()]
    trees = [from_toml((run.path / RECIPE).read_text(encoding="utf-8")) for run in runs.values()]
    peaks = [row["memory_peak_mib"] for run in runs.values() for row in run.rows(TIMING)
             if row.get("memory_peak_mib")]  # fmt: skip
    return {
        "runs": {str(seed): str(run.path) for seed, run in runs.items()},
        "accuracy": statistics.fmean(accuracy) if accuracy else None,
        "sd": statistics.stdev(accuracy) if len(accuracy) > 1 else None,
        "by_seed": {str(seed): score["accuracy"] for seed, score in scores.items()},
        "loss": statistics.fmean(s["loss"] for s in scores.values()) if scores else None,
        "n": [score["n"] for score in scores.values()],
        "seconds": statistics.fmean(s["seconds"] for s in summaries.values()) if runs else None,
        "memory_peak_mib": max(peaks, default=None),
        "lr": trees[0]["optimizer"].get("lr") if trees else None,
    }


def _answers(run: Run, on: str) -> Answers:
    said = read_predictions(run.path / f"predictions/{on}.csv").predictions
    order = said.index.argsort()
    return Answers(said.index[order], (said.labels == said.targets)[order])


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


def _seeds(arms: Sequence[Arm], count: int) -> range:
    first = arms[0].recipe.seed
    return range(first, first + count)


def _check_data(arms: Sequence[Arm], console: Console) -> None:
    """Refuse arms on different images before anything is trained.

    Raises:
        BadData: with both fingerprints.
    """
    seen: dict[str, tuple[str, str]] = {}
    for arm in arms:
        recipe = arm.recipe
        tree = to_tree(recipe)
        key = str((tree["data"], tree.get("fold"), recipe.seed))
        if key in seen:
            continue
        digest = ""
        if seen or any(to_tree(a.recipe)["data"] != tree["data"] for a in arms):
            data = recipe.data
            loaded = data.load(console.progress)
            digest = split(loaded, data.validation, data.test, recipe.seed, recipe.fold).digest
        for other, name in seen.values():
            if other != digest:
                raise _different(name, other, arm.name, digest)
        seen[key] = digest, arm.name


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
    save(experiment, "curves", lines(courses, title))
    experiment.write("figures/curves.json", courses)
    if summary["differences"]:
        save(experiment, "differences", differences(summary["differences"], title))
        experiment.write("figures/differences.json", {"differences": summary["differences"]})


def save(experiment: Experiment, name: str, figure: Any) -> None:
    """Write a figure as `figures/<name>.png` in the folder of `experiment`."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    experiment.write_bytes(f"figures/{name}.png", picture.getvalue())


def finite(tree: Any) -> Any:
    """Return `tree` without infinities, which JSON does not have."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [finite(value) for value in tree]
    return "inf" if isinstance(tree, float) and math.isinf(tree) else tree
