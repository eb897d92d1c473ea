"""The wrong answers one by one, the worst first."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.metrics.answers import answers
from pellucid.values import Predictions


@dataclass(frozen=True)
class Mistake:
    """One wrong answer.

    Args:
        row: position in the table of predictions.
        true: the label.
        predicted: the answer.
        p_true: the probability that the model gave to the label.
        p_predicted: and to its answer.
        runner_up: the second most likely class, which may be the label.
        p_runner_up: its probability.
        margin: p_predicted - p_true: how far the model was from being right.
        loss: minus the logarithm of `p_true`, in nats. The worst mistake has the largest.
        rank: place of the label among the classes by probability, from 2.
    """

    row: int
    true: str
    predicted: str
    p_true: float
    p_predicted: float
    runner_up: str
    p_runner_up: float
    margin: float
    loss: float
    rank: int


def mistakes(predictions: Predictions) -> tuple[Mistake, ...]:
    """Return all wrong answers, the worst first; of equals the earlier row.

    Raises:
        BadData: if a logit is not finite or a label is no class.

    >>> import torch
    >>> table = Predictions(torch.tensor([[0.0, 3.0]]), torch.tensor([0]), torch.tensor([7]), ("a",
    ...     "b"))
    >>> [(m.true, m.predicted, m.runner_up, round(m.p_true, 3)) for m in mistakes(table)]
    [('a', 'b', 'a', 0.047)]
    """
    said = answers(predictions)
    wrong = (~said.right).nonzero().flatten()
    wrong = wrong[said.nll[wrong].argsort(descending=True, stable=True)]
    if not len(wrong):
        return ()
    names = predictions.classes
    logits = predictions.logits[wrong].double()
    shares = logits.softmax(1)
    second = logits.argsort(dim=1, descending=True, stable=True)[:, 1]
    return tuple(
        Mistake(
            row=row,
            true=names[target],
            predicted=names[label],
            p_true=p[target],
            p_predicted=p[label],
            runner_up=names[next_best],
            p_runner_up=p[next_best],
            margin=p[label] - p[target],
            loss=loss,
            rank=rank + 1,
        )
        for row, target, label, p, next_best, loss, rank in zip(
            wrong.tolist(), said.targets[wrong].tolist(), said.labels[wrong].tolist(),
            shares.tolist(), second.tolist(), said.nll[wrong].tolist(), said.rank[wrong].tolist(),
            strict=True,
        )
    )  # fmt: skip
