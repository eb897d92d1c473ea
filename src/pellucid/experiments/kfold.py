"""K-fold cross-validation: each image judged once by a model that has not seen it."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pellucid.catalogue import to_tree
from pellucid.data.folds import FoldSpec
from pellucid.errors import BadRecipe, DataChanged
from pellucid.experiments.folder import RESULT, Experiment
from pellucid.experiments.results import rates_of
from pellucid.experiments.work import (
    Asked,
    Job,
    check_asked,
    nobody,
    run_all,
    threads_for,
    with_threads,
)
from pellucid.figures.comparison import lines
from pellucid.figures.render import png
from pellucid.metrics.accuracy import wilson
from pellucid.metrics.labels import suspects
from pellucid.optim.schedules import PlateauSpec
from pellucid.plan import steps
from pellucid.recipe import Recipe
from pellucid.runs.folder import METRICS, Run
from pellucid.runs.predictions import FIXED, FOLD, read_predictions, suspect_table
from pellucid.runs.tables import fingerprints
from pellucid.sinks.console import Console
from pellucid.stopping import NeverStop, StopSpec

OUT_OF_FOLD, SUSPECTS = "predictions/out_of_fold.csv", "predictions/suspects.csv"
WARNING = (
    "The folds share most of their training images, so their scores are not independent: the "
    "standard deviation over folds says how much a score varies, not how well the mean is known."
)


def kfold(
    recipe: Recipe,
    count: int,
    title: str,
    path: Path | None = None,
    *,
    refit: bool = True,
    jobs: int = 1,
    console: Console | None = None,
    asked: Asked = nobody,
) -> tuple[Experiment, dict[str, Any]]:
    """Train `count` models, each without one fold, then one on everything; test only that one.

    Each fold is trained from the same first weights, and measures the mean and standard deviation
    of its pixels on its own training images. The folds' models never see the test part. The last
    model trains on all images that are not for the test, as long as the folds did, with its last
    weights judged on the test part, once.

    Args:
        recipe: what each fold trains; its own `fold` is replaced.
        count: number of folds, at least 2.
        title: what a person calls it; names the folder.
        path: the folder; else one is named by title and content.
        refit: train the last model, too.
        jobs: runs side by side.
        console: told of each run that ends.
        asked: whether the user asked to stop.

    Raises:
        Stopped: if the user stopped.
        UserError: if the recipe or the data has to change.
    """
    console = console or Console()
    if count < 2:
        raise BadRecipe(f"--folds must be at least 2. Got {count}.")
    if refit and isinstance(recipe.schedule, PlateauSpec):
        raise BadRecipe(
            "schedule.name plateau watches validation images, and the last model has none: it "
            "trains on all of them. Take another schedule, or leave that model out: --no-refit"
        )
    check_asked([recipe], jobs)
    tree = to_tree(recipe)
    experiment = Experiment.at(path, title, {"kind": "kfold", "folds": count, "recipe": tree})
    with experiment.locked():
        recipe = with_threads(recipe, experiment.threads(threads_for(jobs)))
        console.line(f"experiment: {experiment.path}")
        folds = [
            Job(f"fold-{index}", recipe.with_(fold=FoldSpec(count, index)))
            for index in range(count)
        ]
        found = run_all(experiment, folds, jobs, console, asked)
        runs = {index: found[job.name] for index, job in enumerate(folds) if job.name in found}
        _same_labels(runs)
        summary = summarise(runs, count)
        if len(runs) == count:
            experiment.write_bytes(OUT_OF_FOLD, out_of_fold(list(runs.values())).encode())
            table = read_predictions(experiment.path / OUT_OF_FOLD)
            found_wrong = suspects(table.predictions, table.folds)
            known = {
                number: sha256
                for run in runs.values()
                for number, sha256 in fingerprints(run.path / "split.csv", "validation").items()
            }
            experiment.write_bytes(SUSPECTS, suspect_table(found_wrong, table, known).encode())
            summary["suspects"] = {"count": len(found_wrong.found), "n": found_wrong.n}
        last = None
        if refit and runs:
            job = Job("final", on_everything(recipe, list(runs.values())), sealed=False)
            last = run_all(experiment, [job], 1, console, asked).get("final")
        summary["final"] = last and {"run": str(last.path), "test": (last.summary() or {})["test"]}
        summary |= {"experiment": str(experiment.path), "kind": "kfold", "title": title}
        summary["failed"] = experiment.failures()
        experiment.write(RESULT, summary)
        courses = {f"fold {index}": [run.rows(METRICS)] for index, run in runs.items()}
        if courses:
            heading = f"{title}: each fold's validation images"
            rates = {f"fold {index}": rates_of(run, recipe) for index, run in runs.items()}
            picture = png(lines(courses, rates, heading))
            experiment.write_figure("curves", picture, {"courses": courses, "rates": rates})
    return experiment, summary


def _same_labels(runs: dict[int, Run]) -> None:
    """Raise if the table of corrected labels was changed after some folds were trained.

    Raises:
        DataChanged: naming the folds.
    """
    tables: dict[str, list[int]] = {}
    for index, run in runs.items():
        sha256 = ((run.summary() or {}).get("relabelled") or {}).get("sha256", "")
        tables.setdefault(sha256, []).append(index)
    if len(tables) > 1:
        groups = "; ".join(", ".join(map(str, folds)) for folds in tables.values())
        raise DataChanged(
            f"The table of corrected labels (--data.relabel) was changed between folds: {groups}. "
            "Restore it, or begin anew in another folder: --out FOLDER"
        )


def summarise(runs: dict[int, Run], count: int) -> dict[str, Any]:
    """Return what the folds came to, for JSON: each, mean, standard deviation, all images."""
    folds = {index: (run.summary() or {})["validation"] for index, run in runs.items()}
    accuracy = [fold["accuracy"] for fold in folds.values()]
    correct, n = (sum(fold[key] for fold in folds.values()) for key in ("correct", "n"))
    return {
        "folds": {
            str(index): {**fold, "run": str(runs[index].path)} for index, fold in folds.items()
        },
        "count": count,
        "accuracy": statistics.fmean(accuracy) if accuracy else None,
        "sd": statistics.stdev(accuracy) if len(accuracy) > 1 else None,
        "out_of_fold": {
            "accuracy": correct / n,
            "correct": correct,
            "n": n,
            "interval": list(wilson(correct, n)),
        }
        if n
        else None,
        "suspects": None,
        "warning": WARNING,
    }


def on_everything(recipe: Recipe, runs: Sequence[Run]) -> Recipe:
    """Return the recipe of the last model: no validation part, as long as the folds were trained.

    The data's own validation part, which the folds share out too, is trained on as well. Where
    the folds stop early the last model takes the mean of the steps that were best for them.
    """
    whole = recipe.with_(fold=FoldSpec(1))
    if isinstance(recipe.stop.build(), NeverStop):
        return whole
    best = [(run.summary() or {})["best"]["step"] for run in runs]
    return whole.with_(stop=StopSpec(), length=steps(max(1, round(statistics.fmean(best)))))


def out_of_fold(runs: Sequence[Run]) -> str:
    """Return the predictions of all folds as one table, by id, with the fold of each image.

    Each image stands there once, judged by the model that has not been trained on it.
    """
    rows: list[tuple[int, list[str]]] = []
    head: list[str] = []
    for fold, run in enumerate(runs):
        path = run.path / "predictions/validation.csv"
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            head = next(reader)
            rows += [(int(row[0]), [*row, str(fold)]) for row in reader]
    assert tuple(head[: len(FIXED)]) == FIXED
    assert len({number for number, _ in rows}) == len(rows), "an image is in two folds"
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow([*head, FOLD])
    table.writerows(row for _, row in sorted(rows))
    return out.getvalue()
