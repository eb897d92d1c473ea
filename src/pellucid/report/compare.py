"""Several finished runs on the same images: one table, and which differences are shown."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from pellucid.catalogue import differences, read_toml
from pellucid.errors import BadRun
from pellucid.figures.compared import compared_figure
from pellucid.figures.render import Drawing
from pellucid.metrics.judgement import judge
from pellucid.metrics.paired import holm, mcnemar, paired_bootstrap, verdict
from pellucid.runs.folder import ENVIRONMENT, METRICS, RECIPE, Run
from pellucid.runs.predictions import PredictionTable, read_predictions

Facts = dict[str, Any]


def compare_runs(runs: Sequence[Run], part: str) -> Facts:
    """Return the scores of `runs` on one part and the paired test of each two of them.

    Args:
        runs: at least two, finished, on the same data.
        part: validation or test. Nothing is predicted anew: their tables are read.

    Raises:
        BadRun: if they cannot be compared; the message says why.
    """
    if len(runs) < 2 or len({run.path.resolve() for run in runs}) < len(runs):
        raise BadRun("Name at least two runs, each once: pellucid compare-runs RUN RUN...")
    summaries = [_summary(run) for run in runs]
    _same_data(runs)
    tables = [read_predictions(run.path / "predictions" / f"{part}.csv") for run in runs]
    _same_images(runs, tables)
    names = _names(runs)
    rows = []
    for run, name, table, summary in zip(runs, names, tables, summaries, strict=True):
        judged = judge(table.predictions)
        rows.append({
            "name": name, "run": str(run.path), "model": summary["model"],
            "parameters": summary.get("parameters"), "n": judged.n, "correct": judged.correct,
            "accuracy": judged.accuracy.value, "interval": list(judged.accuracy.interval or ()),
            "loss": judged.loss.value, "loss_interval": list(judged.loss.interval or ()),
            "balanced_accuracy": judged.balanced_accuracy.value,
            "macro_f1": judged.averages[1].f1, "ece": judged.calibration.equal_width.ece,
            "seconds": summary["seconds"], "best_epoch": summary["best"]["epoch"],
        })  # fmt: skip
    right = [table.predictions.labels == table.predictions.targets for table in tables]
    return {
        "part": part,
        "n": len(right[0]),
        "runs": rows,
        "settings": _settings(runs, names),
        "pairs": _pairs(names, right),
        "courses": [_course(run) for run in runs],
    }


def compared_drawing(facts: Facts) -> Drawing:
    """Return what draws the result of `compare_runs`."""
    names = [row["name"] for row in facts["runs"]]
    title = f"{len(names)} runs on the same {facts['n']:,} {facts['part']} images"
    return lambda: compared_figure(names, facts["runs"], facts["courses"], title)


def _pairs(names: Sequence[str], right: Sequence[Tensor]) -> list[Facts]:
    """Return the paired test of each two; p by Holm's rule, since there are several."""
    couples = list(itertools.combinations(range(len(names)), 2))
    tests = [mcnemar(right[a], right[b]) for a, b in couples]
    adjusted = holm([test.p for test in tests])
    found = []
    for (a, b), test, p in zip(couples, tests, adjusted, strict=True):
        gap = paired_bootstrap(right[a], right[b], seed=0)
        found.append({
            "a": names[a], "b": names[b], **asdict(test), "p_holm": p,
            "difference": gap.value, "interval": list(gap.interval),
            "verdict": verdict(names[a], names[b], test, p),
        })  # fmt: skip
    return found


def _summary(run: Run) -> Facts:
    summary = run.summary()
    if summary is None:
        raise BadRun(f"{run.path} is not finished; go on: pellucid resume {run.path}")
    return summary


def _same_data(runs: Sequence[Run]) -> None:
    digests = [
        str((run.read_json(ENVIRONMENT) or {}).get("data", {}).get("data_digest", ""))
        for run in runs
    ]
    if not all(digests) or len(set(digests)) > 1:
        shown = "".join(
            f"\n  {run.path}: {digest[:16] or 'unknown'}"
            for run, digest in zip(runs, digests, strict=True)
        )
        raise BadRun(
            "Only runs on the same data, split alike, can be compared. The digests of their "
            f"data:{shown}\nTrain them on the same data with the same --seed and --data.validation."
        )


def _same_images(runs: Sequence[Run], tables: Sequence[PredictionTable]) -> None:
    first = tables[0].predictions
    for run, table in zip(runs, tables, strict=True):
        other = table.predictions
        same = first.index.equal(other.index) and first.targets.equal(other.targets)
        if not same or first.classes != other.classes:
            raise BadRun(f"The table of {run.path} is not of the same images as the first run's.")


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the folders' names; with the one above where they are not unique."""
    names = [run.path.resolve().name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [
        f"{run.path.resolve().parent.name}/{name}" for run, name in zip(runs, names, strict=True)
    ]


def _settings(runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[str]]:
    """Return by run in what its recipe differs from the first run's."""
    recipes = [read_toml(run.path / RECIPE) for run in runs]
    return {
        name: differences(recipes[0], recipe)
        for name, recipe in zip(names[1:], recipes[1:], strict=True)
    }


def _course(run: Run) -> list[tuple[float, float]]:
    per_epoch = (run.read_json("figures/curves.json") or {}).get("steps_per_epoch", 1)
    return [
        (row["step"] / per_epoch, row["validation"]["accuracy"])
        for row in run.rows(METRICS)
        if row["kind"] == "evaluation" and row["validation"]
    ]
