"""What each row of a table of predictions says: how sure, of what, and how wrong.

All metrics are sums over these rows, so they do not depend on how the images were batched.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import BadData
from pellucid.values import Predictions

CHUNK = 1 << 18
"""Logits at a time: they and what is made of them stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Answers:
    """One row an image; probabilities are the softmax of the logits, in float64.

    Args:
        targets: int64 (N,), the labels.
        labels: int64 (N,), the predicted classes; the first of equals.
        rank: int64 (N,), how many classes come before the label's: 0 is a right answer. Of equal
            logits the first class comes first.
        confidence: (N,), the probability of the predicted class.
        p_true: (N,), the probability of the label.
        nll: (N,), minus the logarithm of `p_true`, in nats.
        brier: (N,), sum over the classes of (probability - 1 for the label, else 0) squared.
    """

    targets: Tensor
    labels: Tensor
    rank: Tensor
    confidence: Tensor
    p_true: Tensor
    nll: Tensor
    brier: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def right(self) -> Tensor:
        """Whether each answer is right, bool (N,)."""
        return self.rank == 0


def answers(predictions: Predictions, temperature: float = 1.0) -> Answers:
    """Return what each row of `predictions` says.

    Args:
        predictions: the table.
        temperature: divides the logits before the softmax; it changes no label and no rank.

    Raises:
        BadData: if a logit is not finite or a label is no class, naming the rows.

    >>> table = Predictions(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), torch.tensor([7]), ("a",
    ...     "b"))
    >>> found = answers(table)
    >>> int(found.rank[0]), float(found.confidence[0]), float(found.brier[0])
    (1, 0.5, 0.5)
    """
    check(predictions)
    rows = max(1, CHUNK // len(predictions.classes))
    chunks = zip(predictions.logits.split(rows), predictions.targets.split(rows), strict=True)
    parts = [_chunk(logits, targets, temperature) for logits, targets in chunks]
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return Answers(predictions.targets, *columns)


def check(predictions: Predictions) -> None:
    """Refuse a table from which nothing right can be computed.

    Raises:
        BadData: if its parts do not fit each other, if a logit is not finite, or if a label is no
            class; naming up to ten rows, counted from 1.
    """
    logits, targets, classes = predictions.logits, predictions.targets, len(predictions.classes)
    if logits.ndim != 2 or logits.shape != (len(targets), classes) or not classes:
        raise BadData(
            f"A table of predictions has one row of logits an image and one logit a class. Got "
            f"logits {tuple(logits.shape)}, {len(targets)} labels and {classes} classes."
        )
    bad = _not_finite(logits)
    if len(bad):
        raise BadData(
            f"{_rows(predictions, bad)}: logits that are no finite numbers. The model or its input "
            "is broken: nothing is computed from them."
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        outside = (targets < 0) | (targets >= classes)
        raise BadData(
            f"{_rows(predictions, outside.nonzero().flatten())}: labels outside 0 to "
            f"{classes - 1}, the {classes} classes of the model."
        )


def _not_finite(logits: Tensor) -> Tensor:
    """Return the rows that hold a logit that is not finite."""
    if logits.sum().isfinite():  # what is not finite would spread; one pass, and nothing is kept
        return torch.empty(0, dtype=torch.int64)
    return (~logits.isfinite().all(1)).nonzero().flatten()


def _rows(predictions: Predictions, bad: Tensor) -> str:
    shown = [f"{row + 1} (image {int(predictions.index[row])})" for row in bad[:10].tolist()]
    more = f" and {len(bad) - 10:,} more" if len(bad) > 10 else ""
    return f"Row{'' if len(bad) == 1 else 's'} {', '.join(shown)}{more}"


def _chunk(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, ...]:
    """Return labels, ranks and so on for a few rows. One column a class: additions are long."""
    # A copy also of what is float64 already: it is worked on in place below.
    columns = logits.T.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
    own = columns.gather(0, targets[None])[0]
    top, labels = columns.max(0)  # the first of equals; far faster than argmax
    few = torch.uint8 if len(columns) < 256 else torch.int64
    rank = (columns > own).sum(0, dtype=few).long()
    equal = columns == own
    if int(equal.count_nonzero()) > len(targets):  # rare: of equals, those before the label
        before = torch.arange(len(columns))[:, None] < targets
        rank += (equal & before).sum(0)
    behind = own.sub_(top).div_(temperature)
    shares = columns.sub_(top).div_(temperature).exp_()
    total = shares.sum(0)
    p_true = behind.exp().div_(total)
    brier = shares.square_().sum(0).div_(total.square()).sub_(2 * p_true).add_(1).clamp_(min=0)
    nll = total.log().sub_(behind)
    return labels, rank, total.reciprocal(), p_true, nll, brier
