"""What the boards draw: each point is a number of a row of `metrics.jsonl`, none is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

Row = dict[str, Any]


class Line(NamedTuple):
    """One line of a chart: where its numbers stand in the rows.

    Args:
        tag: its name in TensorBoard, which shows the tags before one slash together.
        label: its name in a legend.
        kinds: of the rows that hold it.
        keys: the way to it within such a row.
    """

    tag: str
    label: str
    kinds: tuple[str, ...]
    keys: tuple[str, ...]


class Chart(NamedTuple):
    """Lines that are seen together.

    Args:
        name: of the window in Visdom.
        title: above it.
        axis: what the vertical axis says.
        lines: at least one.
    """

    name: str
    title: str
    axis: str
    lines: tuple[Line, ...]


class Point(NamedTuple):
    """One number of a row, as a board shows it."""

    tag: str
    step: int
    value: float


STEP, EVALUATION = ("step",), ("evaluation",)

CHARTS = (
    Chart("train_loss", "Training loss since the row before", "loss (nats)", (
        Line("loss/batches", "training batches", STEP, ("loss",)),
    )),
    Chart("loss_curves", "Loss", "loss (nats)", (
        Line("loss/train", "train", EVALUATION, ("train", "loss")),
        Line("loss/validation", "validation", EVALUATION, ("validation", "loss")),
        Line("loss/running", "running, epoch so far", EVALUATION, ("running_loss",)),
    )),
    Chart("accuracy_curves", "Accuracy", "accuracy (share)", (
        Line("accuracy/train", "train", EVALUATION, ("train", "accuracy")),
        Line("accuracy/validation", "validation", EVALUATION, ("validation", "accuracy")),
    )),
    Chart("gap", "Overfitting gap: train minus validation", "accuracy (share)", (
        Line("accuracy/gap", "gap", EVALUATION, ("gap",)),
    )),
    Chart("learning_rate", "Learning rate", "learning rate", (
        Line("training/learning_rate", "learning rate", STEP + EVALUATION, ("lr",)),
    )),
    Chart("gradient_norm", "Norm of the gradient before clipping", "norm", (
        Line("training/gradient_norm", "gradient norm", STEP, ("grad_norm",)),
    )),
)  # fmt: skip


def points(rows: Iterable[Row]) -> list[Point]:
    """Return what `rows` say, each tag at most once for a step; what a row lacks is left out.

    >>> points([{"kind": "step", "step": 3, "loss": 0.5}])
    [Point(tag='loss/batches', step=3, value=0.5)]
    """
    found = {}
    for row in rows:
        for chart in CHARTS:
            for line in chart.lines:
                value = _value(row, line)
                if value is not None:
                    found[line.tag, row["step"]] = Point(line.tag, row["step"], value)
    return list(found.values())


def _value(row: Row, line: Line) -> float | None:
    value: Any = row if row["kind"] in line.kinds else None
    for key in line.keys:
        value = None if value is None else value.get(key)
    return None if value is None else float(value)
