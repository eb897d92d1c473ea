"""The confusion matrix, and all that is counted from it: scores of classes, averages, pairs.

Everything here is a quotient of whole numbers. What has no denominator is None: a class without
images has no recall, and a class that is never predicted no precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.metrics.accuracy import wilson

Interval = tuple[float, float]


def confusion(targets: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the confusion matrix, int64 (K, K): rows are the true classes, columns the predicted.

    Args:
        targets: int64 (N,), in 0 to K - 1.
        labels: int64 (N,), likewise.
        classes: K.

    >>> confusion(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    cells = targets * classes + labels
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def by_row(matrix: Tensor) -> list[list[float | None]]:
    """Return each cell as a share of its row: of the images that are this class. None: no image."""
    return _shares(matrix, matrix.sum(1, keepdim=True))


def by_column(matrix: Tensor) -> list[list[float | None]]:
    """Return each cell as a share of its column: of the images that got this answer."""
    return _shares(matrix, matrix.sum(0, keepdim=True))


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told from the others.

    Args:
        name: of the class.
        support: images that are this class (TP + FN).
        predicted: images that are taken for it (TP + FP).
        right: both (TP).
        precision: right / predicted.
        precision_interval: its 95 % interval (Wilson).
        recall: right / support.
        recall_interval: its 95 % interval (Wilson).
        f1: 2 right / (support + predicted), the harmonic mean of the two.
    """

    name: str
    support: int
    predicted: int
    right: int
    precision: float | None
    precision_interval: Interval | None
    recall: float | None
    recall_interval: Interval | None
    f1: float | None


def class_scores(matrix: Tensor, names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return precision, recall and F1 of each class of a confusion matrix."""
    support, predicted = matrix.sum(1).tolist(), matrix.sum(0).tolist()
    return tuple(
        ClassScore(
            name, n, said, right,
            share(right, said), wilson(right, said) if said else None,
            share(right, n), wilson(right, n) if n else None,
            share(2 * right, n + said),
        )
        for name, n, said, right in zip(
            names, support, predicted, matrix.diagonal().tolist(), strict=True
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Average:
    """Precision, recall and F1 over all classes, averaged in a way that has a name.

    Args:
        name: micro, macro or weighted.
        sentence: what that means.
        precision: None where no class has one; likewise `recall` and `f1`.
    """

    name: str
    sentence: str
    precision: float | None
    recall: float | None
    f1: float | None


SENTENCES = {
    "micro": "Over all images at once. With one label an image, all three are the accuracy.",
    "macro": "The plain mean over classes: a rare class counts as much as a frequent one.",
    "weighted": "The mean over classes, weighted by their images. Its recall is the accuracy.",
}


def averages(matrix: Tensor) -> tuple[Average, ...]:
    """Return the micro, macro and weighted averages, each with the sentence that says what it is.

    A class for which a score is undefined is left out of that score's mean, with its weight.
    """
    right, support, predicted = _counts(matrix)
    total = int(matrix.sum())
    micro = share(int(right.sum()), total)
    means = means_of(right, support, predicted)
    return (
        Average("micro", SENTENCES["micro"], micro, micro, micro),
        *(
            Average(name, SENTENCES[name], *(
                _number(means[f"{name} {score}"]) for score in ("precision", "recall", "f1")
            ))
            for name in ("macro", "weighted")
        ),
    )  # fmt: skip


def balanced_accuracy(matrix: Tensor) -> float | None:
    """Return the mean recall of the classes that have images; None if there are none.

    It is what the accuracy would be, were all classes equally frequent.
    """
    return _number(means_of(*_counts(matrix))["macro recall"])


def means_of(right: Tensor, support: Tensor, predicted: Tensor) -> dict[str, Tensor]:
    """Return macro and weighted precision, recall and F1 of counts (..., K), each (...).

    nan where no class has the score.
    """
    scores = {
        "precision": right / predicted,
        "recall": right / support,
        "f1": 2 * right / (support + predicted),
    }
    means = {}
    for name, score in scores.items():
        known = score.isfinite()
        for way, weights in (("macro", known.double()), ("weighted", known * support)):
            total = (score.nan_to_num(0.0) * weights).sum(-1)
            means[f"{way} {name}"] = total / weights.sum(-1)
    return means


@dataclass(frozen=True)
class Pair:
    """One direction of confusion: images of one class that are taken for another.

    Args:
        true: the class that they are.
        predicted: the class that they are taken for.
        n: how many.
        support: images of the true class.
        share: n / support.
    """

    true: str
    predicted: str
    n: int
    support: int
    share: float


def confused_pairs(matrix: Tensor, names: Sequence[str], most: int = 10) -> tuple[Pair, ...]:
    """Return the most frequent confusions, each in its direction: 4 taken for 9 is not 9 for 4.

    Of equal numbers that with the larger share of its class comes first.
    """
    support = matrix.sum(1).tolist()
    cells = (matrix - matrix.diagonal().diag()).nonzero().tolist()
    found = [(int(matrix[i, j]), int(matrix[i, j]) / support[i], i, j) for i, j in cells]
    found.sort(key=lambda pair: (-pair[0], -pair[1], pair[2], pair[3]))
    return tuple(Pair(names[i], names[j], n, support[i], part) for n, part, i, j in found[:most])


def share(part: int, whole: int) -> float | None:
    """Return `part` / `whole`, or None where there is nothing to divide by.

    >>> share(1, 4), share(0, 0)
    (0.25, None)
    """
    return part / whole if whole else None


def _shares(matrix: Tensor, total: Tensor) -> list[list[float | None]]:
    totals = total.expand_as(matrix).tolist()
    return [
        [share(cell, whole) for cell, whole in zip(*row, strict=True)]
        for row in zip(matrix.tolist(), totals, strict=True)
    ]


def _counts(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    counts = matrix.double()
    return counts.diagonal(), counts.sum(1), counts.sum(0)


def _number(value: Tensor) -> float | None:
    return float(value) if value.isfinite() else None
