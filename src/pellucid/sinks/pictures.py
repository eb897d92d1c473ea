"""Small pictures for the boards: many images in one grid, and the first layer's filters."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

COLUMNS = 8
MOST = 64
"""Images in a grid, at most; the first ones are shown."""
TILE = 56
"""Pixels that a tile is enlarged to, about: filters of 3x3 could not be seen as they are."""
GAP = 6
"""Wide enough to tell where a filter of 3x3 squares ends."""


def grid(images: Floats) -> Pixels:
    """Return images side by side, enlarged without smoothing, white lines between them.

    Args:
        images: (N, C, h, w) in [0, 1], N at least 1; 3 channels are colours, of others the mean
            is shown as grey.

    Returns:
        uint8 (H, W, 3).

    >>> grid(np.zeros((3, 1, 28, 28), np.float32)).shape
    (68, 192, 3)
    """
    images = images[:MOST]
    if images.shape[1] != 3:
        images = images.mean(1, keepdims=True).repeat(3, axis=1)
    zoom = max(1, TILE // max(images.shape[2:]))
    tiles = np.round(images.clip(0, 1) * 255).astype(np.uint8)
    tiles = tiles.transpose(0, 2, 3, 1).repeat(zoom, axis=1).repeat(zoom, axis=2)
    count, height, width, _ = tiles.shape
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, dtype=np.uint8
    )
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def first_filters(weights: Mapping[str, Floats], shape: tuple[int, ...] | None) -> Floats | None:
    """Return the filters of the first layer as images (N, C, h, w) in [0, 1].

    Zero is the middle grey, and all filters have one scale, so that they can be compared.

    Args:
        weights: by name, in the order of the layers.
        shape: (C, H, W) of the network's input, by which a first linear layer is known; None
            if it is not known.

    Returns:
        None if the first layer is neither a 2-d convolution nor a linear layer over the pixels.
    """
    for values in weights.values():
        if values.ndim == 4:
            filters = values
            break
        if values.ndim == 2 and shape and values.shape[1] == np.prod(shape):
            filters = values.reshape(-1, *shape)
            break
    else:
        return None
    largest = float(np.abs(filters[np.isfinite(filters)]).max(initial=0)) or 1.0
    shades: Floats = np.nan_to_num(0.5 + 0.5 * filters / largest, nan=0.5, posinf=1, neginf=0)
    return shades


def png_url(pixels: Pixels) -> str:
    """Return a picture, uint8 (H, W, 3), as a `data:` address that holds it as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
