"""Accuracy, loss, and how sure one may be of an accuracy."""

from __future__ import annotations

import math

import torch.nn.functional as F

from pellucid.values import Metrics, Predictions

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution: 95 % lies within +-Z95."""


def measure(predictions: Predictions) -> Metrics:
    """Return loss and accuracy of `predictions`, each image counting once.

    The mean is taken in float64 over all images, so that it does not depend on how they were
    batched beyond the rounding of each logit.

    >>> import torch
    >>> table = Predictions(torch.eye(3), torch.tensor([0, 1, 0]), torch.arange(3), ("a", "b", "c"))
    >>> measure(table).correct, round(measure(table).loss, 4)
    (2, 0.8848)
    """
    n = len(predictions)
    if n == 0:
        return Metrics(math.nan, 0, 0)
    loss = F.cross_entropy(predictions.logits.double(), predictions.targets)
    correct = int((predictions.labels == predictions.targets).sum())
    return Metrics(float(loss), correct, n)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy of `correct` out of `n`, in [0, 1].

    The score interval of E. B. Wilson, "Probable inference, the law of succession, and
    statistical inference" (1927): it stays inside [0, 1] and holds its level near 0 and 1,
    where the usual +-1.96 standard errors does not. No images give no knowledge: (0, 1).

    >>> [round(edge, 4) for edge in wilson(975, 1000)]
    [0.9634, 0.983]
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = correct / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high
