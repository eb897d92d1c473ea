"""95 % intervals of numbers that are no plain share: means, and averages over classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pellucid.metrics.accuracy import Z95
from pellucid.metrics.confusion import Interval, means_of
from pellucid.seeds import generator

DRAWS = 1000
"""Resamples: the ends of an interval are then good to about a twentieth of its width."""


def mean_interval(values: Tensor) -> Interval | None:
    """Return the 95 % interval of the mean of `values` (N,): +-1.96 standard errors.

    Right for many images, by the central limit theorem; None for fewer than two.

    >>> low, high = mean_interval(torch.tensor([0.0, 1.0, 2.0, 3.0]).double())
    >>> round(low, 3), round(high, 3)
    (0.235, 2.765)
    """
    if len(values) < 2:
        return None
    mean, half = float(values.mean()), Z95 * float(values.std()) / math.sqrt(len(values))
    return mean - half, mean + half


def matrix_intervals(matrix: Tensor, seed: int = 0, draws: int = DRAWS) -> dict[str, Interval]:
    """Return 95 % intervals of the averages over classes, by resampling the images.

    As many images as there are, drawn with replacement, give another confusion matrix; the 2.5th
    and 97.5th of 100 averages are the interval (B. Efron, "Bootstrap methods", 1979). A matrix
    without a mistake resamples to itself and gives no interval: the result is then empty.

    Args:
        matrix: confusion matrix, int64 (K, K).
        seed: names the draws.
        draws: resamples.

    Returns:
        By the names of `means_of`, such as `macro f1`; those that are undefined left out.
    """
    n, classes = int(matrix.sum()), len(matrix)
    if int(matrix.diagonal().sum()) == n:
        return {}
    right, support, predicted = (torch.zeros(classes, draws, dtype=torch.float64) for _ in range(3))
    stream = generator(seed, "bootstrap")
    left, rest = torch.full((draws,), float(n), dtype=torch.float64), n
    cells = matrix.nonzero().tolist()
    cells.sort(key=lambda cell: -int(matrix[cell[0], cell[1]]))
    for i, j in cells:  # a multinomial draw, cell by cell; the last one takes what is left
        count = int(matrix[i, j])
        chance = torch.full_like(left, count / rest)
        drawn = torch.binomial(left, chance, generator=stream) if count < rest else left
        left, rest = left - drawn, rest - count
        support[i] += drawn
        predicted[j] += drawn
        if i == j:
            right[i] += drawn
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    found = {}
    for name, values in means_of(right.T, support.T, predicted.T).items():
        if values.isfinite().all():
            low, high = torch.quantile(values, ends).tolist()
            found[name] = (low, high)
    return found
