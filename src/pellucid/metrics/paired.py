"""Two models on the same images: is one better, or could it be chance?

An interval for each accuracy is not enough: both models fail on much the same hard images, and
only the images on which they differ can tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.seeds import generator

LEVEL = 0.05
"""Above this p no difference is said to be shown."""

DRAWS = 10_000
"""Resamples of the bootstrap: the ends of the interval are then good to about 0.02 of its width."""


@dataclass(frozen=True)
class McNemar:
    """What the images say on which exactly one of two models, a and b, is right.

    Args:
        n: images.
        only_a: of them, those that a alone has right.
        only_b: those that b alone has right.
        p: how likely a split at least as uneven is if the two are equally good; two-sided.
    """

    n: int
    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies on the same images.

    Args:
        n: images.
        value: accuracy of a minus accuracy of b, in [-1, 1].
        interval: its 95 % interval.
    """

    n: int
    value: float
    interval: tuple[float, float]


def mcnemar(right_a: Tensor, right_b: Tensor) -> McNemar:
    """Return the exact two-sided test of Q. McNemar (1947) on which model is right more often.

    Under the hypothesis that a and b are equally good, each image on which exactly one of them is
    right is a toss of a fair coin: p is the binomial probability of a split at least as uneven.
    Without such images p is 1.

    Args:
        right_a: bool (N,), whether model a is right about each image.
        right_b: bool (N,), the same of model b, on the same images in the same order.

    Raises:
        ValueError: if the two are not of one length.

    >>> a = torch.tensor([True] * 9 + [False] * 3)
    >>> b = torch.tensor([True] * 4 + [False] * 7 + [True])
    >>> mcnemar(a, b)
    McNemar(n=12, only_a=5, only_b=1, p=0.21875)
    """
    n, only_a, only_b = _counts(right_a, right_b)
    return McNemar(n, only_a, only_b, fair_coin(only_a, only_b))


def fair_coin(heads: int, tails: int) -> float:
    """Return the exact two-sided p of a fair coin for this many heads and tails.

    >>> fair_coin(5, 1), fair_coin(3, 3), fair_coin(0, 0)
    (0.21875, 1.0, 1.0)
    """
    tosses, fewer = heads + tails, min(heads, tails)
    if heads == tails:
        return 1.0
    if tosses <= 1000:  # exact in whole numbers
        return float(2 * sum(math.comb(tosses, i) for i in range(fewer + 1)) / 2**tosses)
    i = torch.arange(fewer + 1, dtype=torch.float64)
    ways = math.lgamma(tosses + 1) - torch.lgamma(i + 1) - torch.lgamma(tosses - i + 1)
    return min(1.0, 2 * math.exp(float(ways.logsumexp(0)) - tosses * math.log(2)))


def paired_bootstrap(right_a: Tensor, right_b: Tensor, seed: int, draws: int = DRAWS) -> Difference:
    """Return accuracy of a minus accuracy of b with its 95 % interval, by resampling the images.

    Images are drawn with replacement, for both models the same ones, and the 2.5th and 97.5th of
    100 differences are the interval (B. Efron, "Bootstrap methods", 1979). A difference depends
    on two counts alone, so those are drawn (multinomial), which gives the same distribution
    and takes milliseconds for any number of images. Where the models never differ, the interval
    has no width: it says nothing on images that were not seen.

    Args:
        right_a: bool (N,), whether model a is right about each image.
        right_b: bool (N,), the same of model b, on the same images in the same order.
        seed: names the draws.
        draws: resamples.

    Raises:
        ValueError: if the two are not of one length, or empty.

    >>> a, b = torch.ones(100, dtype=torch.bool), torch.arange(100) >= 10
    >>> paired_bootstrap(a, b, seed=0).value
    0.1
    """
    n, only_a, only_b = _counts(right_a, right_b)
    if not n:
        raise ValueError("there are no images to compare on")
    stream = generator(seed, "bootstrap")
    trials = torch.full((draws,), float(n), dtype=torch.float64)
    wins = torch.binomial(trials, torch.full_like(trials, only_a / n), generator=stream)
    rest = only_b / (n - only_a) if only_a < n else 0.0
    losses = torch.binomial(trials - wins, torch.full_like(trials, rest), generator=stream)
    ends = torch.quantile((wins - losses) / n, torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Difference(n, (only_a - only_b) / n, (float(ends[0]), float(ends[1])))


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values for several comparisons at once, by S. Holm's step-down rule (1979).

    The chance that any of them falls below 0.05 without a difference is then at most 5 %.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def verdict(name_a: str, name_b: str, test: McNemar, p: float | None = None) -> str:
    """Return in one sentence what `test` shows.

    Args:
        name_a: what a person calls model a.
        name_b: likewise model b.
        test: of the two.
        p: to judge by instead of the test's own, where there were several comparisons.

    >>> verdict("x", "y", McNemar(1000, 12, 9, 0.6636))
    'no difference shown between x and y: of 1,000 images 12 only x, 9 only y (p = 0.66)'
    >>> verdict("x", "y", McNemar(1000, 30, 9, 0.0011))
    'x is better than y: of 1,000 images 30 only x, 9 only y (p = 0.0011)'
    """
    p = test.p if p is None else p
    better, worse = (name_a, name_b) if test.only_a > test.only_b else (name_b, name_a)
    said = f"no difference shown between {name_a} and {name_b}"
    if p < LEVEL:
        said = f"{better} is better than {worse}"
    counts = f"{test.only_a:,} only {name_a}, {test.only_b:,} only {name_b}"
    return f"{said}: of {test.n:,} images {counts} ({p_text(p)})"


def p_text(p: float) -> str:
    """Return `p` with two digits; what is too small to matter as a bound.

    >>> p_text(0.66357), p_text(0.00104), p_text(3e-9)
    ('p = 0.66', 'p = 0.001', 'p < 0.0001')
    """
    return f"p = {p:.2g}" if p >= 1e-4 else "p < 0.0001"


def _counts(right_a: Tensor, right_b: Tensor) -> tuple[int, int, int]:
    """Return the number of images, and of those that only a and only b has right."""
    if right_a.shape != right_b.shape or right_a.ndim != 1:
        raise ValueError(
            "both must say of the same images whether they are right, as two vectors of one "
            f"length; got shapes {tuple(right_a.shape)} and {tuple(right_b.shape)}"
        )
    a, b = right_a.bool(), right_b.bool()
    return len(a), int((a & ~b).sum()), int((b & ~a).sum())
