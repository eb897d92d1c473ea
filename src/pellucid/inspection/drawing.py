"""A drawing, made as the images of MNIST were made.

LeCun et al. (1998), section III-A: each digit was cut out, scaled to fit into 20x20 pixels with its
proportions kept and its edges smoothed, and laid into 28x28 with its centre of mass in the middle;
the ink is light on black. A network that has only seen such images fails on others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BOX, SIDE = 20, 28
INK = 24
"""Grey values above the background from which a pixel counts as ink, of 255."""


class NoInk(ValueError):
    """There is nothing on the canvas."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A drawing as the network gets it.

    Args:
        pixels: uint8 (28, 28).
        steps: what it was in between, uint8 (H, W), by name, in order.
    """

    pixels: Tensor
    steps: dict[str, Tensor]


def prepare_drawing(canvas: Tensor) -> Drawn:
    """Return `canvas` as MNIST would hold it.

    The background is what the border shows; ink may be darker or lighter than it.

    Args:
        canvas: uint8 (H, W), of any size.

    Raises:
        NoInk: if no pixel differs from the background.

    >>> canvas = torch.full((90, 60), 255, dtype=torch.uint8)
    >>> canvas[20:70, 28:34] = 0
    >>> drawn = prepare_drawing(canvas)
    >>> drawn.pixels.shape, int(drawn.pixels.max()), int((drawn.pixels > 0).any(1).sum())
    (torch.Size([28, 28]), 255, 20)
    """
    from PIL import Image

    grey = canvas.to(torch.int16)
    border = torch.cat([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = int(border.median())
    lighter, darker = (grey - background).clamp_min(0), (background - grey).clamp_min(0)
    ink = lighter if int(lighter.max()) >= int(darker.max()) else darker
    if int(ink.max()) < INK:
        raise NoInk("no ink: all pixels are alike, so there is no digit to look at")
    rows = (ink >= INK).any(1).nonzero().flatten()
    columns = (ink >= INK).any(0).nonzero().flatten()
    cut = ink[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    cut = (cut.float() * (255 / float(cut.max()))).round().to(torch.uint8)
    height, width = cut.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(cut.numpy())
    if size != (width, height):
        image = image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX)
    small = torch.from_numpy(np.asarray(image, np.uint8).copy())
    pixels = _centred(small)
    return Drawn(pixels, {"ink": ink.clamp(0, 255).to(torch.uint8), "cut": cut, "28x28": pixels})


def _centred(small: Tensor) -> Tensor:
    """Return `small` in the middle of 28x28 by its centre of mass, as near as whole pixels go."""
    mass = small.double()
    total = float(mass.sum())
    place = []
    for axis, length in enumerate(small.shape):
        along = mass.sum(1 - axis)
        centre = float((along * torch.arange(length)).sum()) / total
        # the middle of 28 pixels lies between 13 and 14; MNIST has the centre of mass at 14
        place.append(min(max(round(SIDE / 2 - centre), 0), SIDE - length))
    pixels = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    top, left = place
    pixels[top : top + small.shape[0], left : left + small.shape[1]] = small
    return pixels
