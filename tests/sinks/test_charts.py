"""The boards show the numbers of the run log: all that there are, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from pellucid.runs.folder import Run
from pellucid.sinks.charts import CHARTS, Point, points

Row = dict[str, Any]


def test_each_number_of_a_row_is_a_point(history: list[Row]) -> None:
    expected = set()
    for row in history:
        step = row["step"]
        expected.add(Point("training/learning_rate", step, row["lr"]))
        if row["kind"] == "step":
            expected.add(Point("loss/batches", step, row["loss"]))
            expected.add(Point("training/gradient_norm", step, row["grad_norm"]))
        else:
            expected.add(Point("loss/running", step, row["running_loss"]))
            expected.add(Point("accuracy/gap", step, row["gap"]))
            for part in ("train", "validation"):
                expected.add(Point(f"loss/{part}", step, row[part]["loss"]))
                expected.add(Point(f"accuracy/{part}", step, row[part]["accuracy"]))
    found = points(history)
    assert set(found) == expected
    assert len(found) == len(expected) == 3 * 7 + 4 * 3 - 1  # the rate of step 12 stands twice


def test_what_a_row_lacks_is_left_out(history: list[Row]) -> None:
    judged = {**history[1], "validation": None, "gap": None}
    overflowed = {**history[0], "grad_norm": None}
    assert {point.tag for point in points([judged])} == {
        "loss/train", "loss/running", "accuracy/train", "training/learning_rate"
    }  # fmt: skip
    assert {point.tag for point in points([overflowed])} == {
        "loss/batches", "training/learning_rate"
    }  # fmt: skip
    assert points([]) == []


def test_rows_of_other_kinds_are_passed_over(finished: Run, history: list[Row]) -> None:
    assert points([{"kind": "another", "loss": 1.0, "lr": 1.0}]) == []
    assert points(finished.rows("metrics.jsonl")) == points(history)


def test_train_and_validation_share_a_chart() -> None:
    lines = {chart.name: [line.label for line in chart.lines] for chart in CHARTS}
    assert {"train", "validation"} <= set(lines["loss_curves"])
    assert lines["accuracy_curves"] == ["train", "validation"]
    assert {"train_loss", "learning_rate", "gap", "gradient_norm"} <= set(lines)
    tags = [line.tag for chart in CHARTS for line in chart.lines]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize("zero", [0, 0.0])
def test_zero_is_a_number(history: list[Row], zero: float) -> None:
    assert Point("accuracy/gap", 4, 0.0) in points([{**history[1], "gap": zero}])
