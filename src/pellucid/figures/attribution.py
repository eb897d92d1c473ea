"""Maps of attribution, each with what it passes."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pellucid.figures.frame import BAD, GOOD, blank, divided, frame, show_pixels, symmetric
from pellucid.viewdata import ViewData

GREY = "#dddddd"


def draw_attribution(data: ViewData) -> Figure:
    """Return image and maps side by side, a strip of tests under each, and their agreement.

    Each map has a symmetric scale of its own, since methods have different units.

    Args:
        data: of the view `attribution`.
    """
    n = data.numbers
    found: dict[str, Any] = n["methods"]
    figure, body = frame(data, 15, 7.6)
    above, below = divided(body, heights=[1.25, 1])
    axes: Any = above.subplots(
        2, 1 + len(found), height_ratios=[3, 1.25], squeeze=False
    )  # fmt: skip
    show_pixels(axes[0, 0], n["image"], "image")
    axes[1, 0].axis("off")
    for column, (name, one) in enumerate(found.items(), 1):
        axis = axes[0, column]
        if one["evidence"] == "yes":
            limit = float(one["map"].abs().max())
            shown = symmetric(axis, one["map"], limit)
            bar = above.colorbar(shown, ax=axis, location="bottom", shrink=0.8, pad=0.02)
            bar.ax.tick_params(labelsize=6)
            bar.ax.locator_params(nbins=3)
        else:
            blank(axis, one["evidence"])
            axis.set_box_aspect(1)
        axis.set_title("\n".join(textwrap.wrap(name, 18)), fontsize=9)
        _strip(axes[1, column], one["passes"])
    left, right = divided(below, widths=[1, 1.4])
    _agreement(left, n["agreement"])
    _curves(right.subplots(1, 2), found)
    return figure


def _strip(axis: Axes, passes: dict[str, bool | None]) -> None:
    axis.set(xlim=(0, 1), ylim=(len(passes), 0), xticks=[], yticks=[])
    axis.set_frame_on(False)
    for at, (name, ok) in enumerate(passes.items()):
        colour = GREY if ok is None else GOOD if ok else BAD
        axis.add_patch(Rectangle((0, at + 0.08), 1, 0.84, color=colour))
        word = "-" if ok is None else "pass" if ok else "FAIL"
        axis.text(0.5, at + 0.5, f"{name}: {word}", ha="center", va="center", fontsize=7,
                  color="black" if ok is None else "white")  # fmt: skip


def _agreement(figure: Any, agreement: dict[str, dict[str, float]]) -> None:
    axis = figure.subplots()
    names = list(agreement)
    table = torch.tensor([[agreement[a][b] for b in names] for a in names])
    symmetric(axis, table, 1.0)
    short = [name.split(" (")[0] for name in names]
    axis.set_xticks(range(len(names)), short, rotation=35, ha="right", fontsize=7)
    axis.set_yticks(range(len(names)), short, fontsize=7)
    for y in range(len(names)):
        for x in range(len(names)):
            value = float(table[y, x])
            text = "-" if math.isnan(value) else f"{value:.2f}"
            axis.text(x, y, text, ha="center", va="center", fontsize=7,
                      color="white" if abs(value) > 0.6 else "black")  # fmt: skip
    axis.set_title("agreement of the methods (rank correlation)", fontsize=9)


def _curves(axes: Any, found: dict[str, Any]) -> None:
    names = list(found)
    short = [name.split(" (")[0] for name in names]
    for axis, key, better in zip(axes, ("deletion", "insertion"), ("lower", "higher"), strict=True):
        chance = found[names[0]]["by_chance"][key]
        values = [found[name][key] for name in names]
        colours = [
            {None: GREY, True: GOOD, False: BAD}[found[name]["passes"][key]] for name in names
        ]
        axis.barh(range(len(names)), [0 if math.isnan(v) else v for v in values], color=colours)
        axis.axvline(chance, color="black", linestyle="--", linewidth=1)
        axis.set_yticks(range(len(names)), short if key == "deletion" else [], fontsize=7)
        axis.invert_yaxis()
        axis.tick_params(axis="x", labelsize=7)
        axis.set_xlabel("mean logit; dashed: random order", fontsize=8)
        axis.set_title(f"{key}: {better} is better", fontsize=9)
