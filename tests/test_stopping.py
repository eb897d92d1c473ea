"""Early stopping: the rule, and a run that obeys it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid import Recipe, resume, steps, train
from pellucid.data.digits import Digits
from pellucid.errors import BadRecipe
from pellucid.models.mlp import MLPSpec
from pellucid.optim.specs import SGD
from pellucid.plan import Duration
from pellucid.stopping import EarlyStop, NeverStop, StopSpec
from pellucid.values import Metrics


def told(rule: EarlyStop | NeverStop, losses: list[float]) -> list[bool]:
    stopped = []
    for loss in losses:
        rule.offer(Metrics(loss, 1, 2))
        stopped.append(rule.now)
    return stopped


def test_it_ends_at_the_last_bad_evaluation_of_its_patience() -> None:
    rule = EarlyStop(2, 0.0, "loss")
    assert told(rule, [1.0, 0.9, 0.95, 0.8, 0.8, 0.9]) == [False] * 5 + [True]


def test_a_gain_that_is_too_small_is_none() -> None:
    assert told(EarlyStop(2, 0.05, "loss"), [1.0, 0.96, 0.955]) == [False, False, True]
    assert told(EarlyStop(2, 0.0, "loss"), [1.0, 0.96, 0.955]) == [False, False, False]


def test_it_can_watch_accuracy() -> None:
    rule = EarlyStop(1, 0.0, "accuracy")
    rule.offer(Metrics(1.0, 5, 10))
    rule.offer(Metrics(2.0, 6, 10))  # the loss rose, the accuracy too
    assert not rule.now
    rule.offer(Metrics(0.1, 6, 10))
    assert rule.now


def test_without_patience_it_never_stops() -> None:
    rule = StopSpec().build()
    assert isinstance(rule, NeverStop)
    assert not any(told(rule, [1.0, 2.0, 3.0]))


@pytest.fixture
def worse(tiny: Recipe) -> Recipe:
    """A run that gets worse from the start, and would take 40 steps."""
    return tiny.with_(
        model=MLPSpec(hidden=(8,)), optimizer=SGD(lr=30.0, momentum=0.0, nesterov=False),
        length=steps(40), evaluate=Duration.parse("2 steps"), stop=StopSpec(patience=3),
        max_grad_norm=1.0,
    )  # fmt: skip


def test_a_run_ends_early_says_why_and_keeps_the_best(worse: Recipe, tmp_path: Path) -> None:
    run = train(worse, tmp_path)
    summary = run.summary()
    rows = [row for row in run.rows("metrics.jsonl") if row["kind"] == "evaluation"]
    assert summary["stopped_early"]
    assert summary["steps"] == rows[-1]["step"] < 40
    losses = [row["validation"]["loss"] for row in rows]
    assert min(losses) == losses[-4]  # three in a row without a gain
    best = max(rows, key=lambda row: (row["validation"]["accuracy"], -row["validation"]["loss"]))
    assert summary["best"]["step"] == best["step"]
    assert summary["best"]["accuracy"] == best["validation"]["accuracy"]
    assert "no better in 3 evaluations in a row" in (run.path / "log.txt").read_text()
    assert run.checkpoints.steps()[-1] == summary["steps"]


def test_its_counters_survive_a_resume(worse: Recipe, tmp_path: Path) -> None:
    whole = train(worse, tmp_path / "whole")
    last = whole.summary()["steps"]
    for stop in range(1, last):
        asked = iter(range(1, 100))
        run = train(
            worse, tmp_path / str(stop), stop=lambda _, asked=asked, at=stop: next(asked) == at
        )
        assert run.summary() is None
        resumed = resume(run.path, worse)
        assert resumed.metrics.read_bytes() == whole.metrics.read_bytes(), f"stopped after {stop}"
        assert resumed.summary()["steps"] == last


def test_it_needs_validation_images(tmp_path: Path) -> None:
    from pellucid import good

    recipe = good("digits").with_(data=Digits(validation=0.0), stop=StopSpec(patience=2))
    with pytest.raises(BadRecipe, match="stop.patience watches the validation part"):
        train(recipe, tmp_path)
