"""Labels that are probably wrong, by confident learning.

C. Northcutt, L. Jiang and I. Chuang, "Confident learning: estimating uncertainty in dataset
labels" (2021). A model that was trained on a label has learned it, right or wrong, so only
probabilities from models that did not see the image can tell: those of a k-fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import BadData
from pellucid.metrics.answers import check
from pellucid.values import Predictions


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong.

    Args:
        row: position in the table of predictions.
        label: the class that is given.
        suggested: the class that the images seem to be.
        p_label: the probability of the label.
        p_suggested: and of the suggestion.
        score: p_label - p_suggested: the lower, the more suspicious.
    """

    row: int
    label: str
    suggested: str
    p_label: float
    p_suggested: float
    score: float


@dataclass(frozen=True)
class Suspects:
    """What confident learning finds in a table.

    Args:
        n: images.
        found: the suspects, the most suspicious first.
        joint: confident joint (K, K): images with a label (row) that are confidently some class
            (column); only they are counted.
        share: suspects / n.
    """

    n: int
    found: tuple[Suspect, ...]
    joint: tuple[tuple[int, ...], ...]
    share: float


def suspects(predictions: Predictions, folds: Sequence[int]) -> Suspects:
    """Return the labels that are probably wrong.

    An image is confidently of a class if its probability is at least the mean that images with
    that label get; of several such classes the likeliest counts. That gives for each label and
    each other class the share of images which are of that class; as many, of those with this
    label, are suspicious: the ones that the models hold most for the other class (the paper's
    "prune by noise rate"). It is a hint: hard images are found as well, so look at each.

    Args:
        predictions: of each image by a model that was not trained on it.
        folds: the fold that each image was held out of, as proof.

    Raises:
        BadData: without folds, or with fewer than two; and for what no table may hold.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [2.0, 0.0], [1.0, 0.0]])
    >>> table = Predictions(logits, torch.tensor([0, 1, 1, 0, 1]), torch.arange(5), ("a", "b"))
    >>> [(s.row, s.label, s.suggested) for s in suspects(table, [0, 1, 0, 1, 0]).found]
    []
    """
    check(predictions)
    if len(folds) != len(predictions) or len(set(folds)) < 2:
        raise BadData(
            "Suspicious labels can only be told from probabilities of models that did not train on "
            "the image: a table with a column `fold`, of at least two folds, as pellucid kfold "
            "writes it (predictions/out_of_fold.csv). From others, learned mistakes look right."
        )
    p = predictions.logits.double().softmax(1)
    n, classes = p.shape
    targets = predictions.targets
    known = torch.bincount(targets, minlength=classes)
    own = torch.zeros(classes, dtype=torch.float64)
    own.index_add_(0, targets, p[torch.arange(n), targets])
    bounds = torch.where(known > 0, own / known.clamp(min=1), torch.inf)  # no images: never sure
    sure = p.masked_fill(p < bounds, -1.0)
    best, place = sure.max(1)
    counted = best >= 0
    joint = torch.bincount(
        targets[counted] * classes + place[counted], minlength=classes * classes
    ).reshape(classes, classes)
    rows, suggested, score = _prune(p, targets, joint, known)
    found = tuple(
        Suspect(
            row, predictions.classes[int(targets[row])], predictions.classes[j],
            float(p[row, targets[row]]), float(p[row, j]), value,
        )
        for row, j, value in zip(rows, suggested, score, strict=True)
    )  # fmt: skip
    shown = tuple(tuple(row) for row in joint.tolist())
    return Suspects(n, found, shown, len(found) / n if n else 0.0)


def _prune(
    p: Tensor, targets: Tensor, joint: Tensor, known: Tensor
) -> tuple[list[int], list[int], list[float]]:
    """Return rows, suggested classes and scores of the suspects, the most suspicious first."""
    rates = joint / joint.sum(1, keepdim=True).clamp(min=1)
    most: dict[int, tuple[float, int]] = {}
    for i, j in (joint - joint.diagonal().diag()).nonzero().tolist():
        mine = (targets == i).nonzero().flatten()
        score = p[mine, i] - p[mine, j]
        count = int((rates[i, j] * known[i]).round())
        worst = score.argsort(stable=True)[:count]
        for row, value in zip(mine[worst].tolist(), score[worst].tolist(), strict=True):
            if value < 0:  # the other class is held for likelier
                most[row] = min(most.get(row, (value, j)), (value, j))
    rows = sorted(most, key=lambda row: (most[row][0], row))
    return rows, [most[row][1] for row in rows], [most[row][0] for row in rows]
