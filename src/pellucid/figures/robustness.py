"""Accuracy and confidence against changes of the images."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pellucid.figures.frame import BAD, COLOURS, GOOD, divided, frame, show_pixels
from pellucid.figures.words import clipped
from pellucid.viewdata import ViewData

MARKS = {True: "\u2713", False: "\u2717"}
"""Of right and wrong answers: green and red alone look alike to some eyes."""


def draw_robustness(data: ViewData) -> Figure:
    """Return a row for each change: its curves, and one image under it.

    Args:
        data: of the view `robustness`.
    """
    n = data.numbers
    changes = n["changes"]
    figure, body = frame(data, 14, 2.05 * len(changes) + 0.5)
    most = max(len(film) for film in n["film"].values())
    rows = divided(body, heights=[1.15, *[1.0] * (len(changes) - 1)])
    for row, (name, found) in zip(rows, changes.items(), strict=True):
        left, right = divided(row, widths=[1.15, 0.42 * most])
        _curves(left.subplots(), name, found, first=row is rows[0])
        axes: Any = right.subplots(1, most, squeeze=False)
        film = n["film"][name]
        if row is rows[0]:
            right.suptitle(
                f"one image of class {clipped(n['classes'][n['label']], 20)}, changed more and "
                "more, and what is said of it (\u2713 right, \u2717 wrong)", fontsize=9,
            )  # fmt: skip
        for axis in axes[0]:
            axis.axis("off")
        for axis, shown in zip(axes[0], film, strict=False):
            axis.axis("on")
            show_pixels(axis, shown["image"], f"{shown['level']:g}")
            ok = shown["said"] == n["label"]
            said = f"{MARKS[ok]} {clipped(n['classes'][shown['said']], 12)}"
            axis.set_xlabel(f"{said}: {100 * shown['sure']:.0f} %", fontsize=8,
                            color=GOOD if ok else BAD)  # fmt: skip
    return figure


def _curves(axis: Axes, name: str, found: dict[str, Any], *, first: bool) -> None:
    levels = found["levels"]
    for key, label, colour, style in (
        ("accuracy", "right", COLOURS[0], "-"), ("sure", "sure of the answer", COLOURS[1], "--"),
    ):  # fmt: skip
        axis.plot(levels, [100 * value for value in found[key].tolist()], style, color=colour,
                  marker="o", markersize=3.5, label=label)  # fmt: skip
    axis.axvline(found["nothing"], color="#888888", linewidth=0.8, linestyle=":")
    axis.set_ylim(0, 104)
    axis.set_ylabel("%", fontsize=8)
    axis.set_title(name, fontsize=9, loc="left")
    axis.set_xlabel(found["unit"], fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    if first:
        axis.legend(fontsize=7, loc="lower center")
