"""The smallest square that flips the answer when it is painted over: where a model looks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.inspection.border import Logits


@dataclass(frozen=True)
class Square:
    """A square that flips the answer when it is painted over.

    Args:
        top: its first row.
        left: its first column.
        size: rows and columns.
        after: the answer with it.
        tried: how many squares were tried until then.
    """

    top: int
    left: int
    size: int
    after: int
    tried: int


def smallest_square(
    logits: Logits, image: Tensor, colour: Tensor, *, target: int | None = None
) -> Square | None:
    """Return the smallest square that flips the answer when it is painted over, if one does.

    Squares from a fourteenth to half of the shorter side (an eighth, of large images), half
    overlapping; of several of one size the one that takes most from the old answer.

    Args:
        logits: the model.
        image: (1, C, H, W).
        colour: to paint with, (C,).
        target: the answer to reach; else any other one.
    """
    height, width = image.shape[2:]
    side = min(height, width)
    unit = max(1, side // (28 if side <= 64 else 16))
    tried = 0
    with torch.no_grad():
        before = int(logits(image)[0].argmax())
        for size in range(2 * unit, side // 2 + 1, unit):
            places = _places(height, width, size, max(unit, size // 2))
            gaps, answers = _painted(logits, image, colour, places, size, before)
            tried += len(places)
            flips = answers == target if target is not None else answers != before
            if bool(flips.any()):
                at = int(gaps.masked_fill(~flips, -torch.inf).argmax())
                return Square(*places[at], size, int(answers[at]), tried)
    return None


def _places(height: int, width: int, size: int, step: int) -> list[tuple[int, int]]:
    rows = sorted({*range(0, height - size + 1, step), height - size})
    columns = sorted({*range(0, width - size + 1, step), width - size})
    return [(top, left) for top in rows for left in columns]


def _painted(
    logits: Logits, image: Tensor, colour: Tensor, places: list[tuple[int, int]], size: int,
    before: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return by how much the old answer is behind, and the answer, for each painted square."""
    gaps, answers = [], []
    for part in torch.arange(len(places)).split(128):
        images = image.repeat(len(part), 1, 1, 1)
        for row, at in enumerate(part.tolist()):
            top, left = places[at]
            images[row, :, top : top + size, left : left + size] = colour[:, None, None]
        out = logits(images)
        answers.append(out.argmax(1))
        gaps.append(out.amax(1) - out[:, before])
    return torch.cat(gaps), torch.cat(answers)
