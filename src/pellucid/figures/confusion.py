"""The confusion matrix: as counts, by row and by column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pellucid.figures.words import clipped

RIGHT, WRONG = np.array([0.03, 0.25, 0.50]), np.array([0.70, 0.05, 0.15])
UNKNOWN = 0.85
"""Grey of a cell whose share is undefined."""

LETTER = 0.075
"""Inches that a letter of a class name takes."""

MOST_WRITTEN = 20
"""Up to this number of classes each cell has its number written in it."""

Shares = Sequence[Sequence[float | None]]


def confusion_figure(
    counts: Sequence[Sequence[int]],
    by_row: Shares,
    by_column: Shares,
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Return three views of one matrix. Rows are true classes, columns predicted ones.

    Right answers are blue, wrong ones red; red is scaled to the largest share of wrong answers,
    or a good model's mistakes would not be seen.

    Args:
        counts: (K, K) images.
        by_row: each as a share of its row; None where the class has no images.
        by_column: each as a share of its column; None where the class is never predicted.
        classes: K names.
        title: shown above all.
    """
    names = [clipped(name, 14) for name in classes]
    longest = max(map(len, names))
    turned = longest > 3
    size = min(9.0, max(3.6, 0.42 * len(classes)))
    before = 0.5 + LETTER * longest  # in inches: room for names and label
    below = 0.5 + (LETTER * longest if turned else 0.15)
    width, height = 3 * (size + before) + 0.15, size + below + 0.8
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, y=1 - 0.12 / height)
    axes = [
        figure.add_axes(
            ((before + i * (size + before)) / width, below / height, size / width, size / height)
        )
        for i in range(3)
    ]
    written = len(classes) <= MOST_WRITTEN
    views = (
        ("Counts (colour: share of the row)", by_row, [[f"{n}" for n in row] for row in counts]),
        ("By row, %: of a class (diagonal: recall)", by_row, _percents(by_row)),
        ("By column, %: of an answer (diagonal: precision)", by_column, _percents(by_column)),
    )
    for axis, (text, shares, words) in zip(axes, views, strict=True):
        axis.set_title(text, fontsize=9)
        _matrix(axis, shares, words if written else None)
        axis.set_xlabel("predicted", fontsize=9)
        axis.set_ylabel("true", fontsize=9)
        step = max(1, len(names) // 25)
        ticks = range(0, len(names), step)
        small = 8 if len(names) <= MOST_WRITTEN else 6
        axis.set_xticks(ticks, names[::step], fontsize=small, rotation=90 if turned else 0)
        axis.set_yticks(ticks, names[::step], fontsize=small)
    return figure


def _matrix(axis: Axes, shares: Shares, words: Sequence[Sequence[str]] | None) -> None:
    values = np.array([[np.nan if cell is None else cell for cell in row] for row in shares])
    axis.imshow(_colours(values), interpolation="nearest")
    if words is None:
        return
    size = 8 if len(words) <= 12 else 6
    for i, row in enumerate(words):
        for j, word in enumerate(row):
            if word in ("0", "0.0"):
                continue
            dark = values[i, j] > (0.5 if i == j else 0.5 * _worst(values))
            colour = "white" if dark else "#222222"
            axis.text(j, i, word, ha="center", va="center", fontsize=size, color=colour)


def _colours(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (K, K, 3): from white to blue on the diagonal, to red beside it."""
    strength = values / _worst(values)
    diagonal = np.eye(len(values), dtype=bool)
    strength[diagonal] = values[diagonal]
    target = np.where(diagonal[..., None], RIGHT, WRONG)
    colours = 1 + strength[..., None] * (target - 1)
    colours[np.isnan(values)] = UNKNOWN
    shown: NDArray[np.float64] = np.clip(colours, 0, 1)
    return shown


def _worst(values: NDArray[np.float64]) -> float:
    """Return the largest share beside the diagonal; 1 where there is none."""
    beside = np.where(np.eye(len(values), dtype=bool), 0.0, np.nan_to_num(values))
    return float(beside.max()) or 1.0


def _percents(shares: Shares) -> list[list[str]]:
    return [["" if cell is None else f"{100 * cell:.1f}" for cell in row] for row in shares]
