"""Some images of each class, as a data check saw them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

CELL = 0.9
"""Inches from one image to the next."""
NAMES = 1.7
"""Inches that the names of the classes take."""
MOST = 20
"""Classes that are shown."""


def class_pictures(
    examples: Mapping[str, Sequence[NDArray[np.uint8]]], counts: Mapping[str, int], title: str
) -> Figure:
    """Return a grid with a row of images for each class.

    The pixels are shown as they are, not smoothed. Of more than 20 classes the first are shown.

    Args:
        examples: by class: images uint8 (H, W, 3); a class without any has an empty row.
        counts: number of images of each class.
        title: shown above all.
    """
    names = list(counts)[:MOST]
    columns = max([len(examples.get(name, ())) for name in names] + [4])
    heads = textwrap.wrap(title, 14 * (columns + 2))
    if len(counts) > MOST:
        heads.append(f"the first {MOST} of {len(counts)} classes")
    height = 0.35 + 0.2 * len(heads) + CELL * max(1, len(names))
    figure = Figure(figsize=(NAMES + CELL * columns, height), layout="constrained")
    figure.suptitle("\n".join(heads), fontsize=11)
    axes: Any = figure.subplots(max(1, len(names)), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, name in enumerate(names):
        label = f"{textwrap.shorten(name, 20, placeholder='...') or '...'}\n{counts[name]:,}"
        axes[row, 0].text(
            -0.12, 0.5, label.replace("$", r"\$"), transform=axes[row, 0].transAxes, ha="right",
            va="center", fontsize=9,
        )  # fmt: skip
        for column, image in enumerate(examples.get(name, ())):
            axes[row, column].imshow(image, interpolation="nearest")
    return figure
