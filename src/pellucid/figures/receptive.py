"""The receptive field of one place, on an image and as energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pellucid.figures.frame import COLOURS, frame, labels, positive, show_pixels
from pellucid.viewdata import ViewData

MOST = 18
"""Layers whose field is shown, evenly spread; the table holds all."""


def draw_receptive(data: ViewData) -> Figure:
    """Return the box on an image, the energy of the gradient, and the field of each layer.

    Args:
        data: of the view `receptive-field`.
    """
    n = data.numbers
    layers = _spread(n["layers"], n["layer"])
    figure, body = frame(data, 12.5, max(4.0, 0.24 * len(layers) + 1.0))
    image, heat, bars = body.subplots(1, 3, width_ratios=[1, 1.15, 1.1])
    show_pixels(image, n["image"], "image, and the box by the formula")
    shown = positive(heat, n["energy"], float(n["energy"].max()))
    heat.set_title(f"mean squared gradient by each pixel\n({n['n']} images)", fontsize=9)
    bar = body.colorbar(shown, ax=heat, shrink=0.7)
    bar.ax.tick_params(labelsize=7)
    top, left, bottom, right = n["box"]
    for axis in (image, heat):
        axis.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False,
                      edgecolor="#e69f00", linewidth=2)
        )  # fmt: skip
    sizes = [layer["field"][0] for layer in layers]
    colours = [COLOURS[1] if layer["layer"] == n["layer"] else "#bbbbbb" for layer in layers]
    bars.barh(range(len(sizes)), sizes, color=colours)
    names = [f"{_tail(layer['layer'])}, after {layer['after']}" for layer in layers]
    labels(bars, names)
    for at, layer in enumerate(layers):
        bars.text(sizes[at], at, f" {layer['field'][0]}x{layer['field'][1]}", va="center",
                  fontsize=8)  # fmt: skip
    bars.set_xlim(0, 1.25 * max(sizes))
    left_out = len(n["layers"]) - len(layers)
    bars.set_title("receptive field by the formula (pixels)", fontsize=9)
    if left_out:
        bars.set_xlabel(f"{left_out} more layers stand in the table", fontsize=8)
    return figure


def _spread(layers: Sequence[Any], chosen: str) -> list[Any]:
    """Return at most `MOST` layers and the chosen one, in order."""
    if len(layers) <= MOST:
        return list(layers)
    kept = {round(i * (len(layers) - 1) / (MOST - 1)) for i in range(MOST)}
    return [one for i, one in enumerate(layers) if i in kept or one["layer"] == chosen]


def _tail(name: str, most: int = 22) -> str:
    return name if len(name) <= most else "..." + name[3 - most :]
