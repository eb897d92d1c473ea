"""The loss around the weights, and the way there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from pellucid.figures.frame import COLOURS, POSITIVE, blank, divided, frame
from pellucid.viewdata import ViewData

LEVELS = 16
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0}
"""Behind words that lie on colours."""


def draw_landscape(data: ViewData) -> Figure:
    """Return the plane as heights and as lines of equal loss, the plane of the way, and the line.

    Args:
        data: of the view `landscape`.
    """
    n = data.numbers
    figure, body = frame(data, 15, 7.6)
    above, below = divided(body, heights=[1, 1])
    left, right = divided(above, widths=[1, 1])
    _heights(right, n["ticks"], n["plane"])
    _contours(
        left, n["ticks"], n["ticks"], n["plane"], "a plane through the weights, seen from above",
        ("first direction (filter lengths)", "second direction (filter lengths)"), None,
    )  # fmt: skip
    first, second = divided(below, widths=[1, 1])
    way = n.get("way")
    if way:
        _contours(
            first, way["along"], way["across"], way["loss"],
            f"the plane of the way, {100 * sum(way['shares']):.0f} % of it",
            tuple(f"component {i + 1} ({100 * share:.0f} %)"
                  for i, share in enumerate(way["shares"])),
            (way["places"].tolist(), n["path"]["steps"]),
        )  # fmt: skip
    else:
        blank(first.subplots(), "no way: no copies of earlier weights")
    _line(second, n)
    return figure


def _logs(values: Tensor) -> Tensor:
    """Return logarithms of losses; what is not finite is left out."""
    return torch.where(values.isfinite(), values.clamp_min(1e-8), torch.nan).log10()


def _heights(figure: SubFigure, ticks: Sequence[float], plane: Tensor) -> None:
    axis: Any = figure.add_subplot(projection="3d")
    grid = torch.tensor(list(ticks))
    x, y = torch.meshgrid(grid, grid, indexing="xy")
    axis.plot_surface(x.numpy(), y.numpy(), _logs(plane).numpy(), cmap=POSITIVE, linewidth=0.2,
                      edgecolor="#00000040", rcount=len(ticks), ccount=len(ticks))  # fmt: skip
    axis.zaxis.set_major_formatter(lambda value, _: f"{10**value:.3g}")
    axis.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axis.tick_params(labelsize=7)
    axis.set_title("the same as heights", fontsize=9)
    axis.set_xlabel("first direction", fontsize=8)
    axis.set_ylabel("second direction", fontsize=8)
    axis.set_zlabel("loss", fontsize=8)


def _contours(
    figure: SubFigure, along: Sequence[float], across: Sequence[float], losses: Tensor, title: str,
    names: tuple[str, ...], path: tuple[Sequence[Sequence[float]], Sequence[int]] | None,
) -> None:  # fmt: skip
    axis = figure.subplots()
    shown = _logs(losses)
    known = shown[shown.isfinite()]
    if not len(known) or float(known.max()) - float(known.min()) < 1e-6:
        blank(axis, "the same loss everywhere")
        return
    levels = torch.linspace(float(known.min()), float(known.max()), LEVELS).tolist()
    filled = axis.contourf(list(along), list(across), shown.numpy(), levels=levels, cmap=POSITIVE)
    axis.contour(list(along), list(across), shown.numpy(), levels=levels, colors="white",
                 linewidths=0.4)  # fmt: skip
    bar = figure.colorbar(filled, ax=axis, aspect=25, pad=0.02)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{10**value:.3g}")
    bar.set_label("loss (logarithmic)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if path:
        places, steps = path
        axis.plot([p[0] for p in places], [p[1] for p in places], color=COLOURS[1], marker="o",
                  markersize=4, linewidth=1.4)  # fmt: skip
        start = (places[0][0], places[0][1])
        axis.annotate(f"step {steps[0]:,}", start, (8, -10), textcoords="offset points",
                      fontsize=8, color=COLOURS[1], fontweight="bold", bbox=PAPER)  # fmt: skip
    axis.plot([0], [0], marker="*", markersize=13, color=COLOURS[1], markeredgecolor="white")
    axis.annotate("here", (0, 0), (7, -12), textcoords="offset points", fontsize=8,
                  color=COLOURS[1], fontweight="bold", bbox=PAPER)  # fmt: skip
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(names[0], fontsize=8)
    axis.set_ylabel(names[1], fontsize=8)
    axis.tick_params(labelsize=7)


def _line(figure: SubFigure, n: Mapping[str, Any]) -> None:
    axis = figure.subplots()
    if "line" not in n:
        blank(axis, "no line: no copies of earlier weights")
        return
    line, path = n["line"], n["path"]
    axis.plot(line["shares"], line["loss"], color=COLOURS[0], marker=".",
              label="straight from the first copy to here")  # fmt: skip
    first, last = path["steps"][0], path["steps"][-1]
    times = [(step - first) / max(1, last - first) for step in path["steps"]]
    axis.plot(times, path["loss"], color=COLOURS[1], marker="o", markersize=4,
              label="the run itself, at its copies")  # fmt: skip
    values = [v for v in (*line["loss"], *path["loss"]) if math.isfinite(v) and v > 0]
    if values and max(values) > 20 * min(values):
        axis.set_yscale("log")
    axis.set_xlabel("share of the way, or of the steps", fontsize=8)
    axis.set_ylabel("loss", fontsize=8)
    axis.set_title("along the line, and along the run", fontsize=9)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize=7)
