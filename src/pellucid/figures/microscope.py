"""One value of one map, cell by cell."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from pellucid.figures.frame import divided, frame, labels, show_pixels, symmetric
from pellucid.viewdata import ViewData

NUMBERS = 49
"""Cells up to which numbers are written into them."""


def draw_microscope(data: ViewData) -> Figure:
    """Return image and map above; below, for each channel, patch, kernel and their product.

    Args:
        data: of the view `microscope`.
    """
    n = data.numbers
    count = len(n["channels"])
    figure, body = frame(data, 11, 3.3 + 1.75 * count)
    above, below = divided(body, heights=[3.2, 1.75 * count])
    image, map_axis, bars = above.subplots(1, 3, width_ratios=[1, 1.15, 1.6])
    show_pixels(image, n["image"], "image, and what this place sees")
    if n["box"]:
        top, left, bottom, right = n["box"]
        image.add_patch(_frame(left, top, right - left, bottom - top))
    shown = symmetric(map_axis, n["map"], float(n["map"].abs().max()))
    y, x = n["place"]
    map_axis.add_patch(_frame(x, y, 1, 1))
    map_axis.set_title(f"map of {n['layer']}, unit {n['unit']}", fontsize=9)
    above.colorbar(shown, ax=map_axis, shrink=0.8).ax.tick_params(labelsize=7)
    _bars(bars, n)
    axes: Any = below.subplots(count, 3, squeeze=False)
    limits = [float(n[key].abs().max()) for key in ("patch", "kernel", "products")]
    for row, channel in zip(axes, n["channels"], strict=True):
        at = n["channels"].index(channel)
        for axis, key, limit in zip(row, ("patch", "kernel", "products"), limits, strict=True):
            _cells(axis, n[key][at], limit, n["padded"] if key != "kernel" else None)
        row[0].set_ylabel(f"channel {channel}", fontsize=9)
        row[2].set_xlabel(f"sum {dict(n['bars'])[f'channel {channel}']:.4f}", fontsize=9)
    for axis, text in zip(axes[0], ("patch", "x kernel", "= products"), strict=True):
        axis.set_title(text, fontsize=10)
    return figure


def _cells(axis: Axes, values: Tensor, limit: float, padded: Tensor | None) -> None:
    symmetric(axis, values, limit)
    height, width = values.shape
    for y in range(height):
        for x in range(width):
            if padded is not None and bool(padded[y, x]):
                axis.add_patch(
                    Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", linewidth=0)
                )
            if height * width <= NUMBERS:
                value = float(values[y, x])
                dark = abs(value) > 0.6 * (limit or 1)
                text = f"{round(value, 3) + 0.0:.3f}"  # no -0.000
                axis.text(x, y, text, ha="center", va="center", fontsize=7,
                          color="white" if dark else "black")  # fmt: skip


def _bars(axis: Axes, n: Any) -> None:
    names = [name for name, _ in n["bars"]]
    values = [value for _, value in n["bars"]]
    if n["activation"]:
        names, values = [*names, f"after {n['activation']}"], [*values, n["after"]]
    colours = ["#b2182b" if value > 0 else "#2166ac" for value in values]
    axis.barh(range(len(values)), values, color=colours)
    labels(axis, names)
    axis.axvline(0, color="black", linewidth=0.8)
    for at, value in enumerate(values):
        axis.text(max(value, 0), at, f" {value:.3f}", va="center", fontsize=8)
    span = (max(max(values), 0.0) - min(min(values), 0.0)) or 1.0  # all may be 0
    axis.set_xlim(min(*values, 0.0) - 0.05 * span, max(*values, 0.0) + 0.2 * span)
    axis.set_title("what adds up", fontsize=9)


def _frame(x: float, y: float, width: float, height: float) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor="#e69f00",
                     linewidth=2)  # fmt: skip
