"""All numbers on a table of predictions, in one value that can be written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from pellucid.metrics.accuracy import wilson
from pellucid.metrics.answers import Answers, answers
from pellucid.metrics.calibration import Reliability, equal_mass, equal_width
from pellucid.metrics.confidence import Confidence, Covered, coverage, spread
from pellucid.metrics.confusion import (
    Average,
    ClassScore,
    Interval,
    Pair,
    averages,
    class_scores,
    confused_pairs,
    confusion,
)
from pellucid.metrics.intervals import matrix_intervals, mean_interval
from pellucid.metrics.ranked import Ranked, ranked
from pellucid.values import Predictions

TOP = (1, 3, 5)


@dataclass(frozen=True)
class Score:
    """A number with what it rests on.

    Args:
        value: None where it is undefined.
        interval: its 95 % interval; None where none can be given.
        n: images.
    """

    value: float | None
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class TopK:
    """Share of images whose label is among the `k` classes that the model holds most likely."""

    k: int
    correct: int
    accuracy: float
    interval: Interval
    n: int


@dataclass(frozen=True)
class Tempered:
    """Calibration after dividing the logits by a temperature that was fitted on other images.

    Args:
        value: the temperature: above 1 the model was too sure, below 1 not sure enough.
        fitted_on: the part that it was fitted on.
        fitted_n: images of that part.
        nll: mean loss with it, in nats.
        ece: with bins of equal width.
        ece_equal_mass: with bins of equal mass.
        ece_interval: the 95 % interval of `ece`, see `ece_interval`; that the temperature was
            fitted, and on finitely many images, is not in it.
        ece_equal_mass_interval: likewise, of `ece_equal_mass`.
    """

    value: float
    fitted_on: str
    fitted_n: int
    nll: float
    ece: float | None
    ece_equal_mass: float | None
    ece_interval: Interval | None
    ece_equal_mass_interval: Interval | None


@dataclass(frozen=True)
class Calibration:
    """How well confidences fit what comes of them.

    Args:
        equal_width: reliability in bins of equal width.
        equal_mass: reliability in bins with equally many answers.
        nll: mean loss, in nats.
        brier: mean over images of the sum over classes of squared errors, in [0, 2].
        tempered: the same with a temperature; None where none was fitted.
    """

    equal_width: Reliability
    equal_mass: Reliability
    nll: Score
    brier: Score
    tempered: Tempered | None


@dataclass(frozen=True, eq=False)
class Judgement:
    """All numbers on a table of predictions. Undefined is None, never 0.

    Args:
        classes: names.
        n: images.
        accuracy: share of right answers; interval by Wilson.
        balanced_accuracy: mean recall of the classes that have images; interval by bootstrap.
        loss: mean cross-entropy in nats.
        top: top-k accuracies for k of 1, 3, 5, but not where k is at least the number of classes.
        per_class: scores of each class.
        averages: micro, macro, weighted.
        f1_intervals: 95 % intervals of macro and weighted F1, by bootstrap.
        matrix: confusion matrix, int64 (K, K), rows true, columns predicted.
        pairs: most frequent confusions.
        confidence: of right and of wrong answers.
        calibration: and of what use they are as probabilities.
        coverage: accuracy when unsure answers are refused.
    """

    classes: tuple[str, ...]
    n: int
    correct: int
    accuracy: Score
    balanced_accuracy: Score
    loss: Score
    top: tuple[TopK, ...]
    per_class: tuple[ClassScore, ...]
    averages: tuple[Average, ...]
    f1_intervals: dict[str, Interval]
    matrix: Tensor
    pairs: tuple[Pair, ...]
    confidence: Confidence
    calibration: Calibration
    coverage: tuple[Covered, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        plain = {name: _plain(value) for name, value in vars(self).items() if name != "matrix"}
        return {**plain, "confusion": self.matrix.tolist()}


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature, with where it comes from.

    Args:
        value: divides the logits.
        fitted_on: name of the part.
        n: images of that part.
    """

    value: float
    fitted_on: str
    n: int


def judge(predictions: Predictions, temperature: Temperature | None = None) -> Judgement:
    """Return all numbers on `predictions`: a function of that table, and of nothing else.

    Args:
        predictions: what a model said.
        temperature: fitted on another part; what it changes is reported beside.

    Raises:
        BadData: if a logit is not finite or a label is no class, naming the rows.

    >>> import torch
    >>> table = Predictions(torch.eye(3), torch.tensor([0, 1, 0]), torch.arange(3), ("a", "b", "c"))
    >>> found = judge(table)
    >>> found.correct, found.balanced_accuracy.value, found.per_class[2].recall
    (2, 0.75, None)
    """
    said = answers(predictions)
    n, names = len(said), predictions.classes
    matrix = confusion(said.targets, said.labels, len(names))
    correct = int(matrix.diagonal().sum())
    resampled = matrix_intervals(matrix)
    found = averages(matrix)
    order = ranked(said.confidence, said.right)
    return Judgement(
        classes=names,
        n=n,
        correct=correct,
        accuracy=Score(correct / n if n else None, wilson(correct, n) if n else None, n),
        balanced_accuracy=Score(found[1].recall, resampled.get("macro recall"), n),
        loss=_mean(said.nll),
        top=tuple(_top(said, k) for k in TOP if k < len(names) and n),
        per_class=class_scores(matrix, names),
        averages=found,
        f1_intervals={
            name: resampled[f"{name} f1"]
            for name in ("macro", "weighted")
            if f"{name} f1" in resampled
        },
        matrix=matrix,
        pairs=confused_pairs(matrix, names),
        confidence=spread(order),
        calibration=_calibration(said, order, predictions, temperature),
        coverage=coverage(order),
    )


def _calibration(
    said: Answers, order: Ranked, predictions: Predictions, temperature: Temperature | None
) -> Calibration:
    return Calibration(
        equal_width(order),
        equal_mass(order),
        _mean(said.nll),
        _mean(said.brier),
        _tempered(predictions, temperature) if temperature and len(said) else None,
    )


def _tempered(predictions: Predictions, temperature: Temperature) -> Tempered:
    said = answers(predictions, temperature.value)
    order = ranked(said.confidence, said.right)
    width, mass = equal_width(order), equal_mass(order)
    return Tempered(
        temperature.value,
        temperature.fitted_on,
        temperature.n,
        float(said.nll.mean()),
        width.ece,
        mass.ece,
        width.interval,
        mass.interval,
    )


def _top(said: Answers, k: int) -> TopK:
    n, correct = len(said), int((said.rank < k).sum())
    return TopK(k, correct, correct / n, wilson(correct, n), n)


def _mean(values: Tensor) -> Score:
    mean = float(values.mean()) if len(values) else None
    return Score(mean, mean_interval(values), len(values))


def _plain(value: Any) -> Any:
    """Return a value made of dataclasses and tuples as lists and dictionaries."""
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(content) for key, content in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(content) for content in value]
    return value
