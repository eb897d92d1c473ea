"""What augmentation does: images above, several draws of each below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

CELL = 1.75
"""Inches from one image to the next."""

LINE = 0.14
"""Inches that a line of small text takes."""

WIDTH = 32
"""Letters of small text under an image."""

HARD = "\u00a0"
"""A space at which no line is broken."""


def augmentation(
    originals: Tensor,
    augmented: Sequence[Tensor],
    labels: Sequence[str],
    words: Sequence[Sequence[str]],
    title: str,
) -> Figure:
    """Return a grid: each image with its label, and below it what each draw made of it.

    The pixels are shown as they are, not smoothed.

    Args:
        originals: uint8 (N, C, H, W), C is 1 or 3.
        augmented: one such tensor for each draw.
        labels: N texts.
        words: for each draw N texts: what was drawn for the image.
        title: shown above all.
    """
    texts = [[_lines(text) for text in row] for row in words]
    most = [max(text.count("\n") + 1 for text in row) for row in texts]
    height = 0.9 + CELL + sum(CELL + LINE * lines for lines in most)
    figure = Figure(figsize=(max(5.0, 0.4 + CELL * len(labels)), height), layout="constrained")
    figure.suptitle("\n".join(textwrap.wrap(title, max(60, 22 * len(labels)))))
    axes: Any = figure.subplots(1 + len(augmented), len(labels), squeeze=False)
    for column, label in enumerate(labels):
        axis = axes[0, column]
        _show(axis, originals[column])
        axis.set_title(textwrap.shorten(label, 24, placeholder="..."), fontsize=10)
        for row, images in enumerate(augmented, 1):
            _show(axes[row, column], images[column])
            axes[row, column].set_xlabel(texts[row - 1][column], fontsize=7, labelpad=2)
    axes[0, 0].set_ylabel("original", fontsize=9)
    for row in range(len(augmented)):
        axes[row + 1, 0].set_ylabel(f"draw {row + 1}", fontsize=9)
    return figure


def _show(axis: Axes, image: Tensor) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def _lines(text: str) -> str:
    """Return `text` in lines that fit under an image, cut between its parts where that can be."""
    parts = [part.replace(" ", HARD) if len(part) < WIDTH else part for part in text.split(", ")]
    return "\n".join(textwrap.wrap(", ".join(parts), WIDTH, break_on_hyphens=False))
