"""Does 90 % sure mean right nine times of ten? Reliability, calibration errors, temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pellucid.metrics.answers import CHUNK
from pellucid.metrics.calibration_interval import ece_interval
from pellucid.metrics.ranked import Ranked, binned
from pellucid.values import Predictions

BINS = 15
"""As in C. Guo and others, "On calibration of modern neural networks" (2017)."""

COLDEST, HOTTEST = 1e-2, 1e3
"""Temperatures beyond these are not believed."""


@dataclass(frozen=True)
class Reliability:
    """Answers grouped by how sure they are, with what came of it.

    Args:
        edges: B + 1 bounds; a bin holds confidences above its lower and up to its upper bound.
        n: answers in each bin.
        confidence: mean confidence in each bin; None in an empty one.
        accuracy: share of right answers in each bin; None in an empty one.
        ece: expected calibration error: the mean over all answers of the difference between
            accuracy and mean confidence of their bin; None without answers.
        floor: what `ece` would be on as many images by chance, were the confidences exactly the
            chances to be right. An error near it is no error that was shown.
        interval: the 95 % interval of `ece`, see `ece_interval`; None with fewer than two answers.
    """

    edges: tuple[float, ...]
    n: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    ece: float | None
    floor: float | None
    interval: tuple[float, float] | None


def equal_width(order: Ranked, bins: int = BINS) -> Reliability:
    """Return the reliability in bins of equal width, as in Guo and others (2017).

    Args:
        order: confidences in order, as `ranked` gives them.
        bins: number of bins.

    >>> import torch
    >>> from pellucid.metrics.ranked import ranked
    >>> found = equal_width(ranked(torch.tensor([0.9, 0.9]), torch.tensor([True, False])), bins=2)
    >>> found.n, round(found.ece, 6)
    ((0, 2), 0.4)
    """
    return _reliability(order, [i / bins for i in range(bins + 1)])


def equal_mass(order: Ranked, bins: int = BINS) -> Reliability:
    """Return the reliability in bins with equally many answers.

    J. Nixon and others, "Measuring calibration in deep learning" (2019): most answers of a good
    model fall into the last bin of equal width, which then hides what happens inside it. Equal
    confidences share a bin, so the order of the rows does not matter; if very many are equal,
    there are fewer bins.

    Args:
        order: confidences in order, as `ranked` gives them.
        bins: number of bins, at most.
    """
    if not len(order):
        return equal_width(order, bins)
    inner = order.every[[len(order) * i // bins for i in range(1, bins)]]
    return _reliability(order, sorted({0.0, 1.0, *inner.tolist()}))


def fit_temperature(predictions: Predictions) -> float | None:
    """Return the temperature that minimises the loss of `predictions`; to be judged on others.

    Logits divided by a temperature keep their order, so no answer changes; only how sure they
    are (Guo and others, 2017). The loss is convex in 1 / temperature; Newton's method with
    halving finds its minimum. None where there is no minimum: without images, and where the
    model makes no mistake at all, so that being ever surer is ever better.

    Args:
        predictions: of images that neither trained the model nor will judge it.
    """
    if predictions.labels.equal(predictions.targets):  # so too of an empty table
        return None
    low, high, scale = 1 / HOTTEST, 1 / COLDEST, 1.0  # of 1 / temperature
    for _ in range(60):
        slope, curve = _slope(predictions, scale)
        if slope > 0:
            high = scale
        else:
            low = scale
        if abs(slope) < 1e-12 or high / low < 1 + 1e-12:
            break
        step = scale - slope / curve if curve > 0 else math.inf
        before, scale = scale, step if low < step < high else math.sqrt(low * high)
        if abs(scale / before - 1) < 1e-12:
            break
    at_an_end = scale > 0.99 / COLDEST or scale < 1.01 / HOTTEST
    return None if at_an_end else 1 / scale


def _slope(predictions: Predictions, scale: float) -> tuple[float, float]:
    """Return first and second derivative of the mean loss by `scale`, which multiplies logits."""
    slope = curve = 0.0
    rows = max(1, CHUNK // len(predictions.classes))
    for logits, targets in zip(
        predictions.logits.split(rows), predictions.targets.split(rows), strict=True
    ):
        columns = logits.T.double()
        columns = columns - columns.amax(0)
        p = (scale * columns).softmax(0)
        mean = (p * columns).sum(0)
        slope += float((mean - columns.gather(0, targets[None])[0]).sum())
        curve += float(((p * columns.square()).sum(0) - mean.square()).sum())
    return slope / len(predictions), curve / len(predictions)


def _reliability(order: Ranked, edges: Sequence[float]) -> Reliability:
    found, total = binned(order, edges), len(order)
    gaps = torch.tensor(found.sure, dtype=torch.float64) - torch.tensor(found.right)
    # Equal where confidences are the chances to be right; else the larger one, to be careful.
    noise = torch.tensor([found.spread, found.squares], dtype=torch.float64).amax(0).sqrt()
    chance = math.sqrt(2 / math.pi) * sum(math.sqrt(spread) for spread in found.spread)
    return Reliability(
        tuple(edges),
        found.n,
        _means(found.sure, found.n),
        _means(found.right, found.n),
        float(gaps.abs().sum()) / total if total else None,
        chance / total if total else None,
        ece_interval(gaps / total, noise / total) if total > 1 else None,
    )


def _means(sums: Sequence[float], n: Sequence[int]) -> tuple[float | None, ...]:
    return tuple(total / count if count else None for total, count in zip(sums, n, strict=True))
