"""What the pictures of the labs share: colours, a sheet with axes, boxes with arrows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation
from mpl_toolkits.mplot3d import Axes3D  # type: ignore[import-untyped]
from torch import Tensor

BLUE, RED, GREEN, GOLD, PURPLE, GREY, TEAL = (
    "#1b6ca8", "#d1495b", "#5b8c5a", "#b8860b", "#7a4988", "#666666", "#2a9d8f",
)  # fmt: skip
COLOURS = (BLUE, RED, GREEN, GOLD, PURPLE, TEAL, GREY)


def sheet(
    title: str, columns: int = 1, rows: int = 1, size: tuple[float, float] = (9, 4.5)
) -> tuple[Figure, list[Axes]]:
    """Return a figure with `rows` times `columns` axes, in reading order.

    Args:
        title: above all.
        columns: of axes.
        rows: of axes.
        size: of the sheet, in inches.
    """
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontweight="bold")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def finish(axis: Axes, title: str, x: str = "", y: str = "", legend: bool = False) -> None:
    """Give an axis its title, its labels, a grid, and a legend if it has something to explain."""
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.grid(alpha=0.25)
    if legend:
        axis.legend(fontsize=8)


def key_below(axis: Axes, columns: int, handles: Sequence[Artist] | None = None) -> None:
    """Explain the lines of an axis below it, where the words hide none of them.

    Args:
        axis: one that is finished, with a name below its ticks.
        columns: of words.
        handles: with names, where they are not the lines of the axis.
    """
    figure = axis.get_figure(root=True)
    assert figure is not None
    under_the_name = axis.transAxes + ScaledTranslation(0, -0.45, figure.dpi_scale_trans)
    axis.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=under_the_name,
        ncols=columns, fontsize=8, frameon=False,
    )  # fmt: skip


def bare(axis: Axes, title: str) -> None:
    """Make an axis a piece of paper: no ticks, no frame."""
    axis.set_title(title)
    axis.set_axis_off()


def box(axis: Axes, x: float, y: float, text: str, colour: str = BLUE, size: float = 9) -> Text:
    """Write `text` in a box with its middle at (x, y), in the units of the axis; return it."""
    return axis.text(
        x, y, text, ha="center", va="center", fontsize=size, zorder=3,
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour},
    )  # fmt: skip


def arrow(axis: Axes, start: Text, end: Text, text: str = "", colour: str = GREY) -> None:
    """Draw an arrow from one box to another, with `text` at its middle."""
    places = start.get_position(), end.get_position()
    style = {
        "arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 2,
        "patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch(),
    }  # fmt: skip
    axis.annotate("", xy=places[1], xytext=places[0], arrowprops=style, zorder=4)
    if text:
        (x0, y0), (x1, y1) = places
        axis.text(
            (x0 + x1) / 2, (y0 + y1) / 2, text, ha="center", va="center", fontsize=8, color=colour,
            zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip


def landscape(
    axis: Axes, f: Callable[[Tensor], Tensor], window: tuple[float, float, float, float]
) -> None:
    """Draw lines of equal height of `f`, closer to each other near its lowest place."""
    x = torch.linspace(*window[:2], 200, dtype=torch.float64)
    y = torch.linspace(*window[2:], 200, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2)
    height = _whole(f(grid))
    lowest = float(height.min())
    levels = lowest + (float(height.max()) - lowest or 1.0) * torch.linspace(0.01, 1, 25) ** 3
    axis.contour(x, y, height, levels=levels.tolist(), colors="#bbbbbb", linewidths=0.7)


def relief(
    axis: Axes3D,
    f: Callable[[Tensor], Tensor],
    window: tuple[float, float, float, float],
    view: tuple[float, float],
) -> None:
    """Draw the surface of `f` in three dimensions, seen from (elevation, azimuth) in degrees."""
    x = torch.linspace(*window[:2], 60, dtype=torch.float64)
    y = torch.linspace(*window[2:], 60, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2)
    height = _whole(f(grid))
    axis.plot_surface(grid[..., 0].numpy(), grid[..., 1].numpy(), height.numpy(), cmap="viridis",
                      alpha=0.55, linewidth=0)  # fmt: skip
    axis.view_init(*view)
    axis.set(title=f"the surface, turned to {view[1]:g} and tilted to {view[0]:g} degrees",
             xlabel="x", ylabel="y", zlabel="f")  # fmt: skip


def _whole(height: Tensor) -> Tensor:
    """Return heights with the highest one in place of those that are no numbers."""
    there = height[height.isfinite()]
    return height.where(height.isfinite(), float(there.max()) if len(there) else 0.0)
