"""The worst mistakes, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

COLUMNS = 4
CELL = 2.1
"""Inches from one image to the next."""


def gallery_figure(images: Tensor, texts: Sequence[str], title: str) -> Figure:
    """Return a grid of images, each with its text below. Pixels are shown as they are.

    Args:
        images: uint8 (N, C, H, W), C is 1 or 3.
        texts: N texts of up to four short lines.
        title: shown above all.
    """
    rows = max(1, -(-len(images) // COLUMNS))
    height = 0.7 + rows * (CELL + 0.75)
    figure = Figure(figsize=(COLUMNS * (CELL + 0.35), height))
    figure.suptitle(title, y=1 - 0.25 / height)
    figure.subplots_adjust(
        left=0.02, right=0.98, top=1 - 0.6 / height, bottom=0.8 / height, hspace=0.42, wspace=0.12
    )
    if not len(images):
        figure.text(0.5, 0.5, "no mistakes", ha="center", fontsize=14)
        return figure
    for place, (image, text) in enumerate(zip(images, texts, strict=True), 1):
        axis = figure.add_subplot(rows, COLUMNS, place)
        pixels = image.permute(1, 2, 0).numpy()
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(text, fontsize=8, labelpad=3)
    return figure
