"""The film of the filters, and how far each layer went."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pellucid.figures.frame import COLOURS, SIGNED, divided, frame
from pellucid.viewdata import ViewData


def draw_evolution(data: ViewData) -> Figure:
    """Return a row for each filter and a column for each copy; below, four curves for each layer.

    Args:
        data: of the view `evolution`.
    """
    n = data.numbers
    film: Tensor = n["film"]
    copies, filters = film.shape[:2]
    tall = 0.62 * filters + 0.6
    figure, body = frame(data, 13, tall + 3.2)
    above, below = divided(body, heights=[tall, 3.2])
    axis = above.subplots()
    sheet, rows, columns = _sheet(film)
    shown = axis.imshow(
        sheet.numpy(), cmap=SIGNED, vmin=-n["scale"], vmax=n["scale"], interpolation="nearest",
        aspect="equal",
    )  # fmt: skip
    times = n["epochs"] or n["steps"]
    axis.set_xticks(columns, [f"{time:.3g}" for time in times], fontsize=8)
    axis.set_yticks(rows, [str(i) for i in n["chosen"]], fontsize=8)
    unit = "epochs" if n["epochs"] else "steps"
    axis.set_xlabel(unit, fontsize=9)
    axis.set_ylabel("filter", fontsize=9)
    axis.tick_params(length=0)
    axis.set_frame_on(False)
    bar = above.colorbar(shown, ax=axis, shrink=0.8, aspect=25, pad=0.01)
    bar.set_label("weight", fontsize=9)
    _curves(below, n, times, unit)
    return figure


def _sheet(film: Tensor) -> tuple[Tensor, list[float], list[float]]:
    """Return all filters on one sheet, and the middles of its rows and columns."""
    copies, filters, channels, h, w = film.shape
    shown = film if channels <= 3 else film.mean(2, keepdim=True)
    wide = shown.permute(0, 1, 3, 2, 4).flatten(3)
    width = wide.shape[3]
    gap, side = max(1, round(0.25 * h)), max(1, round(0.5 * w))
    sheet = torch.full((filters * (h + gap), copies * (width + side)), torch.nan)
    for t in range(copies):
        for i in range(filters):
            y, x = i * (h + gap), t * (width + side)
            sheet[y : y + h, x : x + width] = wide[t, i]
    rows = [i * (h + gap) + (h - 1) / 2 for i in range(filters)]
    columns = [t * (width + side) + (width - 1) / 2 for t in range(copies)]
    return sheet, rows, columns


def _curves(figure: Any, n: Any, times: list[float], unit: str) -> None:
    axes = figure.subplots(1, 4)
    kinds = (
        ("displacement", "displacement |w - w0| / |w0|"), ("path", "length of the way / |w0|"),
        ("cosine", "cosine to the last copy"), ("ratio", "update / weight, per step"),
    )  # fmt: skip
    names = list(n["courses"])
    shown = names if len(names) <= 8 else [names[round(i * (len(names) - 1) / 7)] for i in range(8)]
    for axis, (key, title) in zip(axes, kinds, strict=True):
        for at, name in enumerate(shown):
            values = n["courses"][name][key]
            if key == "ratio":  # one that rests has no place on a logarithmic axis
                values = torch.where(values > 0, values, torch.nan)
            values = values.tolist()
            first = 1 if key == "ratio" else 0
            axis.plot(times[first:], values[first:], color=COLOURS[at % len(COLOURS)],
                      marker=".", linewidth=1.2, label=name)  # fmt: skip
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(unit, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
        if key == "ratio":
            axis.set_yscale("log")
        else:
            axis.ticklabel_format(axis="y", useOffset=False)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=7, ncols=4, frameon=False,
                  loc="outside lower center")  # fmt: skip
