"""How sure right and wrong answers are, and what is gained by refusing unsure ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.metrics.accuracy import wilson
from pellucid.metrics.confusion import Interval
from pellucid.metrics.ranked import Ranked, binned

BINS = 20
SURE = 0.9
"""From here on an answer is called sure."""

COVERAGES = (1.0, 0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Shares of the images that are answered, in the table."""


@dataclass(frozen=True)
class Confidence:
    """How sure answers are, those that are right and those that are wrong.

    Args:
        edges: B + 1 bounds in [0, 1]; a bin holds confidences above its lower bound.
        right: right answers in each bin.
        wrong: wrong answers in each bin.
        mean_right: mean confidence of right answers; None if there are none.
        mean_wrong: likewise of wrong ones.
        sure_wrong: wrong answers that are at least 90 % sure.
    """

    edges: tuple[float, ...]
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    mean_right: float | None
    mean_wrong: float | None
    sure_wrong: int


def spread(order: Ranked, bins: int = BINS) -> Confidence:
    """Return how confidences are distributed for right and for wrong answers.

    >>> import torch
    >>> from pellucid.metrics.ranked import ranked
    >>> spread(ranked(torch.tensor([0.3, 0.95]), torch.tensor([False, True])), bins=2).wrong
    (1, 0)
    """
    edges = [i / bins for i in range(bins + 1)]
    found = binned(order, edges)
    n, right = len(order.every), len(order.right)
    total, of_right = float(order.every.sum()), float(order.right.sum())
    sure = n - int(np.searchsorted(order.every, SURE))
    sure_right = right - int(np.searchsorted(order.right, SURE))
    return Confidence(
        tuple(edges),
        found.right,
        tuple(all_ - hits for all_, hits in zip(found.n, found.right, strict=True)),
        of_right / right if right else None,
        (total - of_right) / (n - right) if n > right else None,
        sure - sure_right,
    )


@dataclass(frozen=True)
class Covered:
    """What comes out when only the surest answers are given and the others are refused.

    Args:
        threshold: the lowest confidence that is answered.
        n: images that are answered.
        coverage: their share of all images.
        correct: right answers among them.
        accuracy: correct / n.
        interval: its 95 % interval (Wilson).
    """

    threshold: float
    n: int
    coverage: float
    correct: int
    accuracy: float
    interval: Interval


def coverage(order: Ranked, asked: Sequence[float] = COVERAGES) -> tuple[Covered, ...]:
    """Return the accuracy when unsure answers are refused.

    Answers of equal confidence are given or refused together, so that the share may be larger
    than asked for.

    Args:
        order: confidences in order, as `ranked` gives them.
        asked: shares of the images to answer, in (0, 1].
    """
    total = len(order.every)
    return tuple(_covered(order, share) for share in asked) if total else ()


def _covered(order: Ranked, share: float) -> Covered:
    total = len(order.every)
    kept = min(total, max(1, math.ceil(total * share)))
    threshold = float(order.every[total - kept])
    n = total - int(np.searchsorted(order.every, threshold))
    correct = len(order.right) - int(np.searchsorted(order.right, threshold))
    return Covered(threshold, n, n / total, correct, correct / n, wilson(correct, n))
