"""Two recipes, each trained with several seeds, on the same images: is one better?

Two things may make a difference by chance: which images happened to be there, and which seeds. Each
is asked for itself, and a difference counts as shown only if neither explains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pellucid.metrics.paired import LEVEL
from pellucid.seeds import derive

DRAWS = 20_000
"""Draws of the sign test and of the bootstrap: a p of 0.05 is then good to about 0.0015."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Which images one trained model has right.

    Args:
        images: names the images, int64 (N,); each once.
        right: bool (N,).
    """

    images: Tensor
    right: Tensor


@dataclass(frozen=True)
class Replicated:
    """The difference of two accuracies, b minus a, over images and seeds.

    Args:
        value: mean difference, in [-1, 1].
        interval: its 95 % interval, the wider one of the two sources of chance.
        p: the larger of `p_images` and `p_seeds`; two-sided.
        p_images: how likely so large a difference is if the two are equally good on each image.
        p_seeds: the same if they are equally good on average over seeds; None with one seed, which
            says nothing of other seeds.
        seeds: pairs of trained models.
        n: pairs of answers in all.
    """

    value: float
    interval: tuple[float, float]
    p: float
    p_images: float
    p_seeds: float | None
    seeds: int
    n: int


def replicated(a: Sequence[Answers], b: Sequence[Answers], seed: int = 0) -> Replicated:
    """Compare two recipes by the answers of the models that were trained with the same seeds.

    Over images: an image is a cluster of the answers of all seeds, so that a hard image counts
    once. The p is that of the sign-flip test (with one seed: the test of McNemar), the interval
    is the percentile bootstrap over images. Over seeds: Student's t of the paired differences.

    Args:
        a: of the first recipe, one per seed.
        b: of the second, by the same seeds, each on the same images as its partner.
        seed: of the draws.

    Raises:
        ValueError: if the two sides do not fit each other.

    >>> import torch
    >>> images = torch.arange(100)
    >>> one, other = Answers(images, images < 80), Answers(images, images < 92)
    >>> found = replicated([one], [other])
    >>> found.value, found.p < 0.01, found.p_seeds
    (0.12, True, None)
    """
    pairs = list(zip(a, b, strict=True))
    if not pairs or any(one.images.tolist() != other.images.tolist() for one, other in pairs):
        raise ValueError("both sides need answers about the same images, seed by seed")
    gains = [(o.right.double() - e.right.double()).numpy() for e, o in pairs]
    images = np.concatenate([e.images.numpy() for e, _ in pairs])
    n = len(images)
    _, cluster = np.unique(images, return_inverse=True)
    sums = np.bincount(cluster, weights=np.concatenate(gains))
    table: Floats = np.stack([sums, np.bincount(cluster).astype(np.float64)])
    kinds: Floats  # few: an image's gain is a small whole number
    kinds, counts = np.unique(table, axis=1, return_counts=True)
    often = counts.astype(np.float64)
    value = float(sums.sum() / n)
    source = np.random.default_rng(derive(seed, "replicates"))
    p_images = _sign_flips(kinds[0], often, abs(sums.sum()), source)
    interval = _bootstrap(kinds, often, source)
    by_seed = np.array([gain.mean() for gain in gains])
    p_seeds = None
    if len(pairs) > 1:
        p_seeds, half = _paired_t(by_seed)
        by_t = (max(-1.0, value - half), min(1.0, value + half))  # few seeds may say nothing
        interval = max(interval, by_t, key=lambda ends: ends[1] - ends[0])
    p = max(p_images, p_seeds or 0.0)
    return Replicated(value, interval, p, p_images, p_seeds, len(pairs), n)


def student_p(t: float, df: int) -> float:
    """Return the two-sided p of Student's `t` with a whole number of degrees of freedom.

    The closed form of the distribution: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.

    >>> round(student_p(2.776445, 4), 6)
    0.05
    """
    if math.isinf(t):
        return 0.0
    angle = math.atan(abs(t) / math.sqrt(df))
    cos2, sine = math.cos(angle) ** 2, math.sin(angle)
    if df % 2:
        term, total = math.cos(angle), 0.0
        for k in range(1, (df - 1) // 2 + 1):
            total += term
            term *= cos2 * 2 * k / (2 * k + 1)
        return 1 - 2 / math.pi * (angle + sine * total)
    term, total = 1.0, 0.0
    for k in range(1, df // 2 + 1):
        total += term
        term *= cos2 * (2 * k - 1) / (2 * k)
    return 1 - sine * total


def _paired_t(differences: Floats) -> tuple[float, float]:
    """Return the p of the mean of `differences` (K,), and half its 95 % interval."""
    count = len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    mean = float(differences.mean())
    if error < 1e-12:  # all seeds agree to the last digit
        return (0.0 if mean else 1.0), 0.0
    low, high = 0.0, 1000.0
    while high - low > 1e-9:  # the t at which p is 0.05
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, count - 1) > LEVEL else (low, middle)
    return student_p(mean / error, count - 1), high * error


def _sign_flips(gains: Floats, often: Floats, seen: float, source: np.random.Generator) -> float:
    """Return how often a sum at least as far from 0 comes up if each cluster's sign is a toss."""
    sums = np.zeros(DRAWS)
    sizes = np.abs(gains)
    for size in np.unique(sizes[sizes > 0]):
        count = int(often[sizes == size].sum())
        sums += size * (2.0 * source.binomial(count, 0.5, DRAWS) - count)
    return float((1 + (np.abs(sums) >= seen - 1e-9).sum()) / (1 + DRAWS))


def _bootstrap(kinds: Floats, often: Floats, source: np.random.Generator) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the mean gain when clusters are drawn anew."""
    drawn = source.multinomial(int(often.sum()), often / often.sum(), DRAWS)
    means = (drawn @ kinds[0]) / (drawn @ kinds[1])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
