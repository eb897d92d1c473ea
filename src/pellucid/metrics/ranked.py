"""Confidences in order: whatever is counted in bins of them is then a few look-ups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranked:
    """How sure answers are, in rising order.

    Args:
        every: confidences of all answers, (N,).
        right: of the right ones, (R,).
    """

    every: Numbers
    right: Numbers

    def __len__(self) -> int:
        return len(self.every)


@dataclass(frozen=True)
class Bins:
    """Answers counted in bins of confidence.

    Args:
        n: answers in each bin.
        right: right ones.
        sure: sum of their confidences.
        spread: sum of confidence * (1 - confidence).
        squares: sum of (confidence - 1)^2 of right answers and confidence^2 of wrong ones.
    """

    n: tuple[int, ...]
    right: tuple[int, ...]
    sure: tuple[float, ...]
    spread: tuple[float, ...]
    squares: tuple[float, ...]


def ranked(confidence: Tensor, right: Tensor) -> Ranked:
    """Return confidences (N,), and whether each answer is right, bool (N,), in order."""
    every = confidence.double().numpy()
    return Ranked(np.sort(every), np.sort(every[right.numpy()]))


def binned(order: Ranked, edges: Sequence[float]) -> Bins:
    """Return what falls between each two of `edges`, above the lower and up to the upper.

    The first bin also holds what is below, the last what is above.
    """
    inner = list(edges[1:-1])
    cuts = [0, *np.searchsorted(order.every, inner, side="right").tolist(), len(order.every)]
    hits = [0, *np.searchsorted(order.right, inner, side="right").tolist(), len(order.right)]
    pieces = [order.every[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    good = [order.right[a:b] for a, b in zip(hits, hits[1:], strict=False)]
    return Bins(
        tuple(len(piece) for piece in pieces),
        tuple(b - a for a, b in zip(hits, hits[1:], strict=False)),
        tuple(float(piece.sum()) for piece in pieces),
        tuple(float((piece * (1 - piece)).sum()) for piece in pieces),
        tuple(  # (c - 1)^2 = c^2 - (2 c - 1), summed over the right ones
            float(max(0.0, (piece * piece).sum() - (2 * hit - 1).sum()))
            for piece, hit in zip(pieces, good, strict=True)
        ),
    )
