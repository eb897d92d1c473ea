"""Mistakes, and which pixels speak for the answer and for the label."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from pellucid.figures.frame import blank, frame, show_pixels, symmetric
from pellucid.figures.words import clipped
from pellucid.viewdata import ViewData


def draw_mistakes(data: ViewData) -> Figure:
    """Return a column for each mistake: the image, what speaks for the answer, for the label.

    Both maps of a mistake share one scale.

    Args:
        data: of the look at the worst mistakes in a report.
    """
    shown = data.numbers["mistakes"]
    figure, body = frame(data, max(9.0, 2.5 * len(shown)), 7.6)
    axes: Any = body.subplots(3, len(shown), squeeze=False)
    for column, one in enumerate(shown):
        show_pixels(axes[0, column], one["image"], f"label: {clipped(one['label'], 16)}")
        axes[0, column].set_xlabel(clipped(one["name"], 26), fontsize=7)
        limit = max(float(one[key].abs().max()) for key in ("for_answer", "for_label"))
        for row, (key, text) in enumerate(
            (("for_answer", f"for the answer, {clipped(one['answer'], 16)}"),
             ("for_label", f"for the label, {clipped(one['label'], 16)}")), 1,
        ):  # fmt: skip
            axis = axes[row, column]
            if float(one[key].abs().max()) == 0:
                blank(axis, "no evidence")
            else:
                symmetric(axis, one[key], limit)
            axis.set_title(text, fontsize=8)
    return figure
