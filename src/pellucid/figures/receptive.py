"""The receptive field of one place, on an image and as energy."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pellucid.figures.frame import COLOURS, frame, labels, positive, show_pixels
from pellucid.viewdata import ViewData


def draw_receptive(data: ViewData) -> Figure:
    """Return the box on an image, the energy of the gradient, and the field of each layer.

    Args:
        data: of the view `receptive-field`.
    """
    n = data.numbers
    layers = n["layers"]
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
    names = [f"{layer['layer']}, after {layer['after']}" for layer in layers]
    labels(bars, names)
    for at, layer in enumerate(layers):
        bars.text(sizes[at], at, f" {layer['field'][0]}x{layer['field'][1]}", va="center",
                  fontsize=8)  # fmt: skip
    bars.set_xlim(0, 1.25 * max(sizes))
    bars.set_title("receptive field by the formula (pixels)", fontsize=9)
    return figure
