"""What stands in a report: everything that a finished run knows about itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from pellucid.errors import BadData, BadRecipe, BadRun
from pellucid.inference import classifier, judged
from pellucid.metrics.confusion import by_column, by_row
from pellucid.metrics.judgement import Judgement, judge
from pellucid.metrics.mistakes import mistakes
from pellucid.report.gallery import Exhibit, Search, exhibits
from pellucid.report.inside import Inside, looks_inside
from pellucid.report.opened import set_of, splits_of
from pellucid.report.suspicious import Suspicious, suspicious_labels
from pellucid.report.tiles import filters, tile
from pellucid.runs.evaluation import headline, stored_temperature
from pellucid.runs.folder import DIAGNOSIS, ENVIRONMENT, METRICS, OPENINGS, RECIPE, TIMING, Run
from pellucid.runs.predictions import PredictionTable, read_predictions
from pellucid.sinks.console import Console
from pellucid.values import ImageSet, Splits

PARTS = ("test", "validation")
SHOWN = 16
"""Mistakes of each part in a report."""

Facts = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One part of the data as it was judged.

    Args:
        name: test or validation.
        facts: all numbers, computed anew from the table of predictions.
        by_row: the confusion matrix as shares of rows.
        by_column: and of columns.
        exhibits: the worst mistakes.
        pictures: of each exhibit: the image, then its neighbours; empty without data.
    """

    name: str
    facts: Facts
    by_row: list[list[float | None]]
    by_column: list[list[float | None]]
    exhibits: list[Exhibit]
    pictures: list[list[str]]


@dataclass(frozen=True)
class Content:
    """What stands in the report of a run.

    Args:
        run: name of the run.
        summary: the run's own.
        recipe: as text.
        environment: on what it was made.
        resources: pairs of a name and a value: time, memory.
        rows: of `metrics.jsonl`.
        evaluations: first, best, last evaluation and some between.
        findings: the diagnosis.
        parts: as they were judged.
        openings: of the test part.
        data: sizes and counts of the three parts.
        samples: per class a name and a picture of its first training image.
        filters: pictures of the first layer's kernels.
        notes: what could not be had, and why.
        suspicious: labels that are probably wrong, or how to look for them.
        inside: looks inside the model.
    """

    run: str
    summary: Facts
    recipe: str
    environment: Facts
    resources: list[tuple[str, str]]
    rows: list[Facts]
    evaluations: list[Facts]
    findings: list[Facts]
    parts: list[Part]
    openings: list[Facts]
    data: Facts
    samples: list[tuple[str, str]]
    filters: list[str]
    notes: list[str] = field(default_factory=list)
    suspicious: Suspicious = field(default_factory=Suspicious)
    inside: list[Inside] = field(default_factory=list)

    def numbers(self) -> Facts:
        """Return all numbers of the report as plain values for JSON."""
        return {
            "run": self.run,
            "summary": self.summary,
            "environment": self.environment,
            "data": self.data,
            "rows": self.rows,
            "diagnosis": self.findings,
            "openings": self.openings,
            "suspicious_labels": self.suspicious.as_dict(),
            "inside": {look.name: look.as_dict() for look in self.inside},
            "parts": {
                part.name: {
                    **part.facts,
                    "by_row": part.by_row,
                    "by_column": part.by_column,
                    "exhibits": [exhibit.as_dict() for exhibit in part.exhibits],
                }
                for part in self.parts
            },
        }


def images_of(run: Run, console: Console) -> tuple[Splits | None, list[str]]:
    """Return the images that `run` was made on, or None with the reason why they are not there."""
    try:
        return splits_of(run, console.progress), []
    except (BadData, BadRecipe) as error:
        return None, [f"Without pictures, since the images are not at hand: {error}"]


def gather(
    run: Run, splits: Splits | None, notes: list[str], device: str, console: Console
) -> Content:
    """Return what stands in the report of `run`.

    Args:
        run: that is finished.
        splits: its images, or None.
        notes: to stand in the report.
        device: where mistakes and training images are compared.
        console: told about progress.

    Raises:
        BadRun: if it is not finished, if it has no checkpoint, or if a table does not belong to
            its summary.
    """
    summary = run.summary()
    if summary is None:
        raise BadRun(f"{run.path} is not finished; go on: pellucid resume {run.path}")
    found = judged(run)
    model = None
    try:
        model = classifier(run, found.checkpoint, device)
    except BadRecipe as error:
        notes = [*notes, f"Without similar images and kernels, since there is no model: {error}"]
    rows = run.rows(METRICS)
    search = Search(model, splits.train, console.progress) if model and splits else None
    parts = [
        _part(run, name, summary, splits, search) for name in PARTS if summary.get(name) is not None
    ]
    return Content(
        run=run.name,
        summary=summary,
        recipe=(run.path / RECIPE).read_text(encoding="utf-8"),
        environment=run.read_json(ENVIRONMENT) or {},
        resources=_resources(run, summary),
        rows=[row for row in rows if row["kind"] in ("step", "evaluation")],
        evaluations=_evaluations(rows, summary["best"]["step"]),
        findings=(run.read_json(DIAGNOSIS) or {}).get("findings", []),
        parts=parts,
        openings=run.rows(OPENINGS),
        data=_data(splits, found.checkpoint.facts),
        samples=_samples(splits.train) if splits else [],
        filters=filters(model.network) if model else [],
        notes=[*found.problems, *notes],
        suspicious=suspicious_labels(run, splits),
        inside=looks_inside(run, splits, device) if model else [],
    )


def judged_again(run: Run, name: str, summary: Facts) -> tuple[PredictionTable, Judgement]:
    """Return the table of `name` and all numbers on it, computed anew.

    Raises:
        BadRun: if they are not those of the summary.
    """
    path = run.path / "predictions" / f"{name}.csv"
    table = read_predictions(path)
    result = judge(table.predictions, stored_temperature(run))
    now, then = headline(result), summary[name]
    for key in ("n", "correct"):
        if now[key] != then[key]:
            raise BadRun(
                f"{path} does not belong to this run's summary.json: {key} is {now[key]:,} by the "
                f"table and {then[key]:,} by the summary. pellucid evaluate {run.path} --on {name} "
                "makes the table anew."
            )
    return table, result


def _part(
    run: Run,
    name: str,
    summary: Facts,
    splits: Splits | None,
    search: Search | None,
) -> Part:
    table, result = judged_again(run, name, summary)
    shown: list[Exhibit] = []
    pictures: list[list[str]] = []
    worst = mistakes(table.predictions)[:SHOWN]
    if splits is None or search is None:
        shown = [
            Exhibit(m, int(table.predictions.index[m.row]), table.files[m.row], (), "n/a")
            for m in worst
        ]
    else:
        data, train = set_of(splits, name), splits.train
        shown = exhibits(run, search, worst, data, past=name == "validation")
        pictures = [
            [_picture(data, e.mistake.row), *(_picture(train, n.index) for n in e.nearest)]
            for e in shown
        ]
    facts = {"part": name, **result.as_dict()}
    return Part(name, facts, by_row(result.matrix), by_column(result.matrix), shown, pictures)


def _picture(data: ImageSet, index: int) -> str:
    return tile(data.pixels(torch.tensor([index]))[0])


def _evaluations(rows: Iterable[Facts], best: int, most: int = 12) -> list[Facts]:
    found = [row for row in rows if row["kind"] == "evaluation"]
    if len(found) <= most:
        return found
    kept = {round(i * (len(found) - 1) / (most - 1)) for i in range(most)}
    kept |= {i for i, row in enumerate(found) if row["step"] == best}
    return [found[i] for i in sorted(kept)]


def _resources(run: Run, summary: Facts) -> list[tuple[str, str]]:
    rows = run.rows(TIMING)
    speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
    peaks = [row["memory_peak_mib"] for row in rows if row.get("memory_peak_mib")]
    gpu = [row["cuda_peak_mib"] for row in rows if row.get("cuda_peak_mib")]
    lines = [
        ("training time", f"{summary['seconds']:,.1f} s"),
        ("of it recording, saving, diagnosis", f"{summary['tax']:.1%}"),
    ]
    if speeds:
        lines.append(("images per second, over the whole run", f"{speeds[-1]:,.0f}"))
    if peaks:
        lines.append(("peak memory of the process", f"{max(peaks):,.0f} MiB"))
    if gpu:
        lines.append(("peak memory on the GPU", f"{max(gpu):,.0f} MiB"))
    return lines


def _data(splits: Splits | None, checkpoint: Facts) -> Facts:
    facts: Facts = {
        **checkpoint["preprocessing"],
        "classes": checkpoint["classes"],
        "counts": {},
        "notes": [],
    }
    if splits is not None:
        facts["notes"] = list(splits.notes)
        for name in ("train", "validation", "test"):
            counts = set_of(splits, name).targets.bincount(minlength=len(facts["classes"]))
            facts["counts"][name] = counts.tolist()
    return facts


def _samples(train: ImageSet, most: int = 40) -> list[tuple[str, str]]:
    """Return the first training image of each class."""
    labels = train.targets.tolist()
    return [
        (name, _picture(train, labels.index(i)))
        for i, name in enumerate(train.classes[:most])
        if i in labels
    ]
