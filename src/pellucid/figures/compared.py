"""Several finished runs in one picture: their accuracies with intervals, and their curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from pellucid.figures.words import clipped

COLOURS = (
    "#1b6ca8", "#d1495b", "#5b8c5a", "#b8860b", "#7a4988", "#2a9d8f", "#8d5524", "#666666",
    "#e07a5f", "#3d5a80",
)  # fmt: skip


def compared_figure(
    names: Sequence[str],
    scores: Sequence[dict[str, Any]],
    courses: Sequence[Sequence[tuple[float, float]]],
    title: str,
) -> Figure:
    """Return accuracies of runs with their 95 % intervals, and validation accuracy over epochs.

    Args:
        names: of the runs.
        scores: `accuracy` and `interval` of each.
        courses: of each the pairs of epoch and validation accuracy.
        title: shown above all.
    """
    figure = Figure(figsize=(11, max(4.0, 1.8 + 0.4 * len(names))), layout="constrained")
    figure.suptitle(title)
    dots, lines = figure.subplots(1, 2)
    for place, (name, score, course) in enumerate(zip(names, scores, courses, strict=True)):
        colour = COLOURS[place % len(COLOURS)]
        low, high = (100 * edge for edge in score["interval"])
        value = 100 * score["accuracy"]
        dots.plot([low, high], [place, place], color=colour, linewidth=2)
        dots.plot([value], [place], color=colour, marker="o")
        lines.plot(
            [epoch for epoch, _ in course], [100 * accuracy for _, accuracy in course],
            color=colour, marker="." if len(course) < 40 else None, label=clipped(name, 40),
        )  # fmt: skip
    dots.set_yticks(range(len(names)), [clipped(name, 40) for name in names], fontsize=8)
    dots.set_ylim(len(names) - 0.5, -0.5)
    dots.set(title="Accuracy with its 95 % interval", xlabel="%")
    lines.set(title="Validation accuracy while training", xlabel="epochs", ylabel="%")
    lines.legend(fontsize=8)
    for axis in (dots, lines):
        axis.grid(alpha=0.25)
    return figure
