"""The figures of an evaluation, each with its numbers as JSON beside it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from pellucid.errors import BadRun
from pellucid.figures.calibration import calibration_figure
from pellucid.figures.confidence import confidence_figure
from pellucid.figures.confusion import confusion_figure
from pellucid.figures.gallery import gallery_figure
from pellucid.figures.render import Drawing, png
from pellucid.figures.render import pdf as as_pdf
from pellucid.figures.words import clipped
from pellucid.metrics.confusion import by_column, by_row
from pellucid.metrics.mistakes import Mistake, mistakes
from pellucid.report.opened import figure_folder
from pellucid.runs.disk import replace_file
from pellucid.runs.evaluation import stored_evaluation
from pellucid.runs.folder import Run
from pellucid.runs.predictions import read_predictions
from pellucid.values import ImageSet

SHOWN = 16
"""Mistakes in a picture."""

Facts = dict[str, Any]


def draw_evaluation(run: Run, part: str, data: ImageSet | None, *, pdf: bool = False) -> list[str]:
    """Draw what `run` keeps of its evaluation on `part`; return the pictures, relative to the run.

    Args:
        run: where tables and numbers are.
        part: that was judged.
        data: its images; without them the gallery is left out.
        pdf: as PDF too.

    Raises:
        BadRun: if the run keeps no evaluation on `part`.
    """
    facts = stored_evaluation(run, part)
    if facts is None:
        raise BadRun(
            f"{run.path}/evaluation/{part}.json is missing. pellucid evaluate {run.path} "
            f"--on {part} makes it."
        )
    drawings = figures_of(run, facts)
    numbers = {name: numbers_of(name, facts) for name in drawings}
    if data is not None:
        table = read_predictions(run.path / "predictions" / f"{part}.csv").predictions
        found = mistakes(table)[:SHOWN]
        title = f"{run.name}, {part}: worst {len(found)} of {facts['n'] - facts['correct']:,} wrong"
        index = torch.tensor([m.row for m in found], dtype=torch.int64)
        texts = [mistake_text(m, data) for m in found]
        drawings["error_samples"] = lambda: gallery_figure(data.pixels(index), texts, title)
        rows = [{**asdict(m), "file": data.file(m.row)} for m in found]
        numbers["error_samples"] = {"mistakes": rows}
    drawn = []
    for name, draw in drawings.items():
        place = f"{figure_folder(run, part)}/{name}"
        figure = draw()
        (run.path / place).parent.mkdir(parents=True, exist_ok=True)
        replace_file(run.path / f"{place}.png", png(figure), run.disk)
        if pdf:
            replace_file(run.path / f"{place}.pdf", as_pdf(figure), run.disk)
        run.write_json(f"{place}.json", numbers[name])
        drawn.append(f"{place}.png")
    return drawn


def figures_of(run: Run, facts: Facts) -> dict[str, Drawing]:
    """Return what draws each figure of the numbers `facts` of an evaluation, by file name."""
    matrix = torch.tensor(facts["confusion"])
    head = f"{run.name}, {facts['part']} (n = {facts['n']:,}): "
    calibration = facts["calibration"]
    return {
        "confusion_matrix": lambda: confusion_figure(
            facts["confusion"], by_row(matrix), by_column(matrix), facts["classes"],
            f"{head}confusion matrix",
        ),
        "confidence_analysis": lambda: confidence_figure(
            facts["confidence"], facts["coverage"], f"{head}confidence"
        ),
        "calibration": lambda: calibration_figure(
            calibration["equal_width"], calibration["equal_mass"], f"{head}calibration"
        ),
    }  # fmt: skip


def numbers_of(name: str, facts: Facts) -> Facts:
    """Return the numbers behind the figure `name`."""
    if name == "confusion_matrix":
        matrix = torch.tensor(facts["confusion"])
        return {
            "classes": facts["classes"],
            "counts": facts["confusion"],
            "by_row": by_row(matrix),
            "by_column": by_column(matrix),
        }
    if name == "confidence_analysis":
        return {"confidence": facts["confidence"], "coverage": facts["coverage"]}
    return dict(facts["calibration"])


def mistake_text(mistake: Mistake, data: ImageSet) -> str:
    """Return the lines under the picture of a mistake: both probabilities, and which file."""
    return (
        f"true: {clipped(mistake.true, 18)}, p = {mistake.p_true:.2g}\n"
        f"predicted: {clipped(mistake.predicted, 18)}, p = {mistake.p_predicted:.3f}\n"
        f"{_tail(data.describe(mistake.row), 32)}"
    )


def _tail(text: str, most: int) -> str:
    return text if len(text) <= most else "..." + text[3 - most :]
