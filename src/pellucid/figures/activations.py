"""The maps of each layer, and how active its units are."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pellucid.figures.frame import COLOURS, POSITIVE, SIGNED, divided, frame, show_pixels
from pellucid.viewdata import ViewData

COLUMNS = 22


def draw_activations(data: ViewData) -> Figure:
    """Return a row for each layer: its maps of one image, and the activity of its units.

    Args:
        data: of the view `activations`.
    """
    n = data.numbers
    layers = n["layers"]
    heights = [0.55 + 0.66 * -(-len(layer["maps"]) // COLUMNS) for layer in layers]
    heights = [max(1.6, height) for height in heights]
    figure, body = frame(data, 13.5, 2.1 + sum(heights))
    top, rest = divided(body, heights=[1.9, sum(heights)])
    image = top.subplots(1, 3)
    show_pixels(image[0], n["image"], "image")
    image[0].set_anchor("W")
    image[1].axis("off")
    image[2].axis("off")
    axes: Any = rest.subplots(
        len(layers), 2, squeeze=False, width_ratios=[3.4, 1], height_ratios=heights
    )
    for (maps, bars), layer in zip(axes, layers, strict=True):
        _maps(rest, maps, layer)
        _active(bars, layer, n["sample"])
    return figure


def _maps(figure: Any, axis: Axes, layer: dict[str, Any]) -> None:
    maps: Tensor = layer["maps"]
    if maps.dim() == 1:
        maps = maps[:, None, None]
    count, height, width = maps.shape
    columns = min(COLUMNS, count)
    gap = max(1, round(0.12 * height)) if height > 1 else 0
    label = round(0.45 * height) if height > 1 else 0
    rows = -(-count // columns)
    sheet = torch.full(
        (rows * (height + gap + label), columns * (width + gap)), torch.nan
    )  # fmt: skip
    for i in range(count):
        row, column = divmod(i, columns)
        y, x = row * (height + gap + label) + label, column * (width + gap)
        sheet[y : y + height, x : x + width] = maps[i].cpu()
        dead = i in layer["dead"]
        if height > 1:
            axis.text(x, y - 0.8, f"{i} dead" if dead else str(i), fontsize=6, va="bottom",
                      color="#c00000" if dead else "black", in_layout=False)  # fmt: skip
    signed = bool((maps < 0).any())
    limit = layer["limit"] or 1.0
    shown = axis.imshow(
        sheet.numpy(), cmap=SIGNED if signed else POSITIVE, vmin=-limit if signed else 0,
        vmax=limit, interpolation="nearest",
    )  # fmt: skip
    axis.axis("off")
    axis.set_anchor("W")
    units, *size = layer["shape"]
    after = "as it is" if layer["after"] in ("conv2d", "linear") else f"after {layer['after']}"
    text = f"{layer['layer']}, {after}: {units} units"
    text += f" of {size[0]}x{size[1]}" if size else ", read in rows"
    text += f"; the first {count} are shown" if count < units else ""
    axis.set_title(text, fontsize=9, loc="left")
    bar = figure.colorbar(shown, ax=axis, shrink=0.8, aspect=15, pad=0.01, panchor=False)
    bar.ax.tick_params(labelsize=7)


def _active(axis: Axes, layer: dict[str, Any], sample: str) -> None:
    shares = sorted((100 * layer["active"]).tolist(), reverse=True)
    edges = [unit - 0.5 for unit in range(len(shares) + 1)]
    axis.stairs(shares, edges, fill=True, color=COLOURS[0])
    axis.set(ylim=(0, 100), xlim=(-0.5, len(shares) - 0.5))
    axis.set_xlabel("units, the most active first", fontsize=7)
    axis.set_ylabel("places above 0 (%)", fontsize=7)
    axis.tick_params(labelsize=7)
    text = (
        f"{len(layer['dead'])} dead, {len(layer['always_on'])} always on"
        if layer["rectified"]
        else "no ReLU: none can be dead"
    )
    axis.set_title(f"{text}\non {sample.split(' images')[0]} images", fontsize=8)
