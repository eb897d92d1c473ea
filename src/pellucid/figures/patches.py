"""The strongest patches of each unit; or of one unit, with the images that they are cut from."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from pellucid.figures.frame import COLOURS, blank, divided, frame, labels, show_pixels
from pellucid.viewdata import ViewData, short

ROWS = 22
"""Units in a column of the picture."""
CELL = 0.43
"""Inches of a patch."""
PATCHES = 9
HEAD = 1.7
"""Cells that the name of a unit takes."""


def draw_patches(data: ViewData) -> Figure:
    """Return nine patches of each unit; of one unit also the images, and a count of classes.

    Args:
        data: of the view `patches`.
    """
    if data.numbers["whole"] is not None:
        return _one_unit(data)
    units = data.numbers["units"]
    columns = min(3, -(-len(units) // 11))
    rows = -(-len(units) // columns)
    across = columns * (PATCHES + HEAD + 0.6)
    figure, body = frame(data, max(7.0, across * CELL), (rows + 1.0) * CELL)
    axis = body.subplots()
    axis.set(xlim=(-HEAD, across - HEAD), ylim=(rows, -0.9), aspect="equal")
    axis.axis("off")
    for column in range(columns):
        left = column * (PATCHES + HEAD + 0.6)
        axis.text(left - HEAD, -0.5, "unit: strongest value", fontsize=7.5, va="center")
        axis.text(left + PATCHES, -0.5, "strongest first", fontsize=7.5, va="center", ha="right")
    for at, one in enumerate(units):
        column, row = divmod(at, rows)
        _unit_row(axis, one, column * (PATCHES + HEAD + 0.6), row)
    return figure


def _unit_row(axis: Axes, one: Any, left: float, top: float) -> None:
    value = short(one["values"][0]) if one["values"] else "never"
    axis.text(left - HEAD, top + 0.5, f"{one['unit']}: {value}", fontsize=8, va="center")
    for rank, patch in enumerate(one["patches"]):
        _paste(axis, patch, left + rank, top, 0.92)
    if not one["patches"]:
        axis.text(left, top + 0.5, "not excited by any of these images", fontsize=8, va="center",
                  color="#666666")  # fmt: skip


def _paste(axis: Axes, patch: Any, left: float, top: float, size: float) -> None:
    """Draw a patch into a square cell, hatched where it lies outside the image."""
    y0, x0, y1, x1 = patch["window"]
    scale = size / max(y1 - y0, x1 - x0)
    box_top, box_left, box_bottom, box_right = patch["box"]
    axis.add_patch(Rectangle((left, top), (x1 - x0) * scale, (y1 - y0) * scale, hatch="//////",
                             facecolor="#e8e8e8", edgecolor="#aaaaaa", linewidth=0))  # fmt: skip
    extent = (
        left + (box_left - x0) * scale, left + (box_right - x0) * scale,
        top + (box_bottom - y0) * scale, top + (box_top - y0) * scale,
    )  # fmt: skip
    axis.imshow(patch["pixels"].permute(1, 2, 0).cpu().numpy(), cmap="gray", vmin=0, vmax=255,
                interpolation="nearest", extent=extent, aspect="auto", zorder=2)  # fmt: skip
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim(), aspect="equal")


def _one_unit(data: ViewData) -> Figure:
    n = data.numbers
    one = n["units"][0]
    figure, body = frame(data, 14, 6.6)
    above, below = divided(body, heights=[1.6, 1])
    if not one["patches"]:
        blank(above.subplots(), f"unit {one['unit']} is never above 0 on these images")
        below.subplots().axis("off")
        return figure
    grid: Any = above.subplots(2, PATCHES, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for at, (patch, whole) in enumerate(zip(one["patches"], n["whole"], strict=True)):
        upper, lower = grid[0, at], grid[1, at]
        upper.set(xlim=(0, 1), ylim=(1, 0))
        _paste(upper, patch, 0, 0, 1)
        upper.set_title(f"value {short(patch['value'])}\nclass {patch['class']}", fontsize=9)
        show_pixels(lower, whole)
        top, left, bottom, right = patch["box"]
        lower.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False,
                                  edgecolor="#e69f00", linewidth=2))  # fmt: skip
        lower.set_title(_short_name(patch["image"]), fontsize=7)
    _classes(below, one)
    return figure


def _short_name(name: str) -> str:
    return name if len(name) <= 18 else "..." + name[-16:]


def _classes(body: SubFigure, one: Any) -> None:
    axis = body.subplots()
    names = list(one["classes"])[:12]
    bars = axis.barh(range(len(names)), [one["classes"][name] for name in names],
                     color=COLOURS[0])  # fmt: skip
    axis.bar_label(bars, fontsize=8, padding=3)
    labels(axis, names)
    axis.set_title(f"classes of the {one['counted']} images that excite it most", fontsize=9)
    axis.set_xlabel("images", fontsize=8)
