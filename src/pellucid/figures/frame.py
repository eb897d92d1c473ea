"""What all views have in common when they are drawn: title, proof, origin, colours."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from torch import Tensor

from pellucid.viewdata import ViewData

SIGNED = "RdBu_r"
"""For values with a sign: red above 0, blue below, white at 0. Safe for colour-blind eyes."""
POSITIVE = "viridis"
"""For values from 0 up."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""For lines and bars: those of Okabe and Ito (2008), which colour-blind eyes can tell apart."""
GOOD, BAD, QUIET = "#00614a", "#c00000", "#666666"
LINE = 0.19
"""Inches of a line of small text."""


def frame(data: ViewData, width: float, height: float) -> tuple[Figure, SubFigure]:
    """Return a figure with title, proof lines and origin, and the part of it to draw in.

    Args:
        data: whose title, proofs and origin are written.
        width: in inches.
        height: of the part to draw in, in inches.
    """
    letters = int(width * 15)
    small = [line for text in _origin(data) for line in textwrap.wrap(text, letters)]
    proofs = [(line, proof.ok) for proof in data.proofs
              for line in textwrap.wrap(proof.line, letters)]  # fmt: skip
    title = "\n".join(balanced(data.title, int(width * 8.5)))
    top = 0.12 + 0.22 * (title.count("\n") + 1)
    bottom = 0.1 + LINE * (len(small) + len(proofs))
    total = top + height + bottom
    figure = Figure(figsize=(width, total), layout="constrained")
    parts = divided(figure, heights=[top, height, bottom])
    parts[0].text(0.5, 0.5, title, ha="center", va="center", fontsize=12)
    line = LINE / bottom
    at = 1.0
    for text, ok in proofs:
        colour = GOOD if ok else BAD
        parts[2].text(0.01, at, text, color=colour, fontsize=8.5, va="top",
                      fontweight="normal" if ok else "bold")  # fmt: skip
        at -= line
    for text in small:
        parts[2].text(0.01, at, text, color=QUIET, fontsize=8, va="top")
        at -= line
    return figure, parts[1]


def balanced(text: str, letters: int) -> list[str]:
    """Return `text` in as few lines of at most `letters` as can be, of about the same length.

    >>> balanced("one two three four five six", 22)
    ['one two three', 'four five six']
    """
    text = text.replace(" %", "\u00a0%")  # a number stays with its unit
    lines = textwrap.wrap(text, letters)
    for width in range(-(-len(text) // max(1, len(lines))), letters):
        narrower = textwrap.wrap(text, width)
        if len(narrower) <= len(lines):
            return narrower
    return lines


def divided(
    figure: Figure | SubFigure,
    *,
    heights: Sequence[float] | None = None,
    widths: Sequence[float] | None = None,
) -> list[SubFigure]:
    """Return the parts of a figure, one below the other or side by side, by these shares."""
    rows, columns = len(heights or [1]), len(widths or [1])
    parts: Any = figure.subfigures(
        rows, columns, height_ratios=heights, width_ratios=widths, squeeze=False, hspace=0
    )
    return list(parts.flat)


def _origin(data: ViewData) -> list[str]:
    known = {key: value for key, value in data.provenance.items() if value is not None}
    texts = [f"{key} {_short(value)}" for key, value in known.items()]
    return [", ".join(texts)] if texts else []


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return str(value)


Draw = Callable[[ViewData], Figure]
"""What draws a view."""


def symmetric(axis: Axes, values: Tensor, limit: float) -> AxesImage:
    """Draw signed values (H, W) on the scale from -limit to limit, white at 0."""
    limit = limit if limit > 0 else 1.0
    axis.set(xticks=[], yticks=[])
    return axis.imshow(
        values.cpu().numpy(), cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest"
    )


def positive(axis: Axes, values: Tensor, limit: float) -> AxesImage:
    """Draw values from 0 up (H, W) on the scale from 0 to limit."""
    limit = limit if limit > 0 else 1.0
    axis.set(xticks=[], yticks=[])
    return axis.imshow(
        values.cpu().numpy(), cmap=POSITIVE, vmin=0, vmax=limit, interpolation="nearest"
    )


def show_pixels(axis: Axes, pixels: Tensor, title: str = "") -> None:
    """Draw an image, uint8 (C, H, W) or (H, W), as it is stored."""
    image = pixels.cpu()
    image = image.permute(1, 2, 0) if image.dim() == 3 else image
    axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    if title:
        axis.set_title(title, fontsize=9)


def blank(axis: Axes, text: str) -> None:
    """Write `text` where a map would be, if there is nothing to be drawn."""
    axis.set(xticks=[], yticks=[])
    axis.set_facecolor("#eeeeee")
    lines = textwrap.wrap(text, 18, break_long_words=False, break_on_hyphens=False)
    axis.text(0.5, 0.5, "\n".join(lines), transform=axis.transAxes, ha="center",
              va="center", fontsize=8, color=QUIET)  # fmt: skip


def grid_of(count: int, columns: int) -> tuple[int, int]:
    """Return rows and columns for `count` panels.

    >>> grid_of(32, 8), grid_of(3, 8)
    ((4, 8), (1, 3))
    """
    columns = max(1, min(columns, count))
    return max(1, math.ceil(count / columns)), columns


def tiles(body: SubFigure, count: int, columns: int) -> list[Axes]:
    """Return `count` small axes in rows, without frames where there is nothing."""
    rows, columns = grid_of(count, columns)
    axes: Any = body.subplots(rows, columns, squeeze=False)
    flat: list[Axes] = list(axes.flat)
    for axis in flat[count:]:
        axis.axis("off")
    return flat[:count]


def labels(axis: Axes, names: Sequence[str], size: float = 8) -> None:
    """Name the rows of a horizontal bar chart, the first on top."""
    axis.set_yticks(range(len(names)), names, fontsize=size)
    axis.invert_yaxis()
