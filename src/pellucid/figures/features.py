"""What units want, beside what they get; and how images lie to each other over the run."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from pellucid.figures.frame import (
    BAD,
    COLOURS,
    GOOD,
    blank,
    divided,
    frame,
    positive,
    show_pixels,
)
from pellucid.viewdata import ViewData, short

VERDICTS = {"above": COLOURS[1], "inside": GOOD, "failed": BAD}
MARKS = "osD^v<>P"
ROWS = ("optimum", "smooth optimum", "best real patch", "next", "next")
COLUMNS = 6
"""Columns of the grid of units, also where there are fewer: pictures keep their size."""


def draw_features(data: ViewData) -> Figure:
    """Return optima, real patches and values of each unit; planes, CKA and k-NN of the run.

    Args:
        data: of the view `features`.
    """
    rest = data.numbers["representation"]
    figure, body = frame(data, 13.5, 8.6 + (0 if rest is None else 7.0))
    parts = divided(body, heights=[8.6] if rest is None else [8.6, 3.4, 3.6])
    _units(parts[0], data.numbers)
    if rest is not None:
        _planes(parts[1], rest, data.numbers["classes"])
        _likeness(parts[2], rest)
    return figure


def _units(body: SubFigure, n: Any) -> None:
    units = n["units"]
    heights = [1.0] * len(ROWS) + [1.1]
    grid: Any = body.subplots(len(heights), COLUMNS, height_ratios=heights, squeeze=False)
    for axis in grid[:, len(units) :].flat:
        axis.axis("off")
    for column, one in enumerate(units):
        name = f"unit {one['unit']}" if n["target"] is None else f"logit {n['target']}"
        show_pixels(grid[0, column], one["plain"], f"{name}: {short(one['plain_value'])}")
        show_pixels(grid[1, column], one["smooth"], short(one["smooth_value"]))
        for row, axis in enumerate(grid[2:5, column]):
            if row < len(one["patches"]):
                show_pixels(axis, one["patches"][row], short(one["best_real"]) if not row else "")
            else:
                blank(axis, "no further image")
        _values(grid[5, column], one, legend=column == 0)
    for axis, name in zip(grid[:5, 0], ROWS, strict=True):
        axis.set_ylabel(name, fontsize=9)


def _values(axis: Axes, one: Any, *, legend: bool) -> None:
    """Draw where the optimum lies among the values that real images give."""
    axis.hist(one["real"].tolist(), bins=25, color="#bbbbbb", label="real images")
    axis.axvline(one["best_noise"], color="black", linestyle=":", label="best of noise")
    axis.axvline(one["smooth_value"], color=COLOURS[5], label="smooth optimum")
    axis.axvline(one["plain_value"], color=COLOURS[0], label="optimum")
    axis.set_yticks([])
    axis.tick_params(axis="x", labelsize=7)
    if legend:
        axis.set_ylabel("images", fontsize=8)
        axis.figure.legend(*axis.get_legend_handles_labels(), fontsize=8, ncols=4, frameon=False,
                           loc="outside lower center")  # fmt: skip
    text = "\n".join(textwrap.wrap(one["says"], 30))
    axis.set_xlabel(text, fontsize=8, color=VERDICTS[one["verdict"]])


def _planes(body: SubFigure, rest: Any, classes: list[str]) -> None:
    panels = rest["panels"]
    axes: Any = body.subplots(1, 4, squeeze=False)[0]
    labels: Tensor = rest["labels"]
    for axis, at in zip(axes, panels, strict=False):
        points = rest["points"][at]
        for c in range(len(classes)):
            mine = points[labels == c]
            axis.scatter(mine[:, 0].tolist(), mine[:, 1].tolist(), s=10, label=classes[c],
                         color=_colour(c), marker=MARKS[c // 10 % len(MARKS)])  # fmt: skip
        axis.set(xticks=[], yticks=[])
        share = 100 * sum(rest["shares"][at])
        axis.set_title(
            f"{_step(rest['steps'][at])}: {share:.0f} % of the variance\n"
            f"k-NN {100 * rest['neighbours'][at]:.0f} %", fontsize=9,
        )  # fmt: skip
    for axis in axes[len(panels) :]:
        axis.axis("off")
    axes[0].set_ylabel(f"what enters {rest['last']}:\n{rest['n']} images, plane of PCA", fontsize=9)
    if len(classes) <= 20:
        handles, names = axes[0].get_legend_handles_labels()
        body.legend(handles, names, loc="outside right center", fontsize=8, frameon=False)


def _colour(c: int) -> Any:
    """Return a colour for each of ten classes; others have the same with other marks."""
    own = (*COLOURS, "#6a3d9a", "#f0e442")
    return own[c % len(own)]


def _step(step: int | None) -> str:
    return "the model" if step is None else f"step {step:,}"


def _likeness(body: SubFigure, rest: Any) -> None:
    layers, over, curves = body.subplots(1, 3, width_ratios=[1, 1, 1.1])
    names = rest["layers"]
    shown = positive(layers, rest["cka_layers"], 1.0)
    _numbers(layers, rest["cka_layers"])
    layers.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    layers.set_yticks(range(len(names)), names, fontsize=7)
    layers.set_title("likeness of layers (linear CKA)", fontsize=9)
    positive(over, rest["cka_over"], 1.0).axes.set_aspect("auto")
    _numbers(over, rest["cka_over"])
    steps = [_step(step).removeprefix("step ") for step in rest["steps"]]
    over.set_xticks(range(len(steps)), steps, rotation=45, ha="right", fontsize=7)
    over.set_yticks(range(len(names)), names, fontsize=7)
    over.set_title("likeness of each layer to itself at the end", fontsize=9)
    over.set_xlabel("step", fontsize=8)
    body.colorbar(shown, ax=[layers, over], shrink=0.8, aspect=30).ax.tick_params(labelsize=7)
    _course(curves, rest)


def _numbers(axis: Axes, table: Tensor) -> None:
    height, width = table.shape
    if max(height, width) > 14:
        return
    for y in range(height):
        for x in range(width):
            value = float(table[y, x])
            axis.text(x, y, f"{value:.2f}".removeprefix("0"), ha="center", va="center",
                      fontsize=6, color="black" if value > 0.6 else "white")  # fmt: skip


def _course(axis: Axes, rest: Any) -> None:
    values = [100 * v for v in rest["neighbours"]]
    if len(values) == 1:
        blank(axis, f"k-NN {values[0]:.0f} %; no earlier copies of the weights")
        return
    steps = [step if step is not None else math.nan for step in rest["steps"]]
    axis.plot(steps, values, marker="o", color=COLOURS[0], label="k-NN accuracy (%)")
    axis.plot(steps, [100 * sum(s) for s in rest["shares"]], marker="s", color=COLOURS[1],
              label="variance in the plane (%)")  # fmt: skip
    axis.plot(steps, [100 * v for v in rest["procrustes"]], marker="^", color=COLOURS[2],
              label="distance from the last plane, aligned (%)")  # fmt: skip
    axis.set(ylim=(0, 165), yticks=range(0, 101, 20))
    axis.set_xlabel("step", fontsize=9)
    axis.set_title("features over the run", fontsize=9)
    axis.legend(fontsize=8, loc="upper center")
    axis.grid(alpha=0.25)
