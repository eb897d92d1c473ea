"""The end of a run: the sealed test part is opened once, and everything is written down."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from pellucid.assemble import Assembled
from pellucid.engine import Engine
from pellucid.errors import BadCheckpoint
from pellucid.evaluate import predict
from pellucid.figures.curves import curves
from pellucid.metrics.accuracy import measure, wilson
from pellucid.recipe import Recipe
from pellucid.runs.checkpoint import Checkpoint, read
from pellucid.runs.disk import replace_file
from pellucid.runs.folder import OPENINGS, SUMMARY, TIMING, Run
from pellucid.runs.tables import metrics_table, prediction_table
from pellucid.sinks.console import Console, percent
from pellucid.values import ImageSet, Metrics


def finish(
    run: Run, recipe: Recipe, engine: Engine, built: Assembled, tax: float, console: Console
) -> None:
    """Judge the best checkpoint on validation and, once, on test; write tables and curves."""
    write_curves(run, built)
    best = judged(run, console)
    built.state.load(best.tensors, best.facts)
    validation = judge(run, engine, built, built.splits.validation, "validation")
    if len(built.splits.test):
        record_opening(run, best.step, len(built.splits.test), "end of training")
    test = judge(run, engine, built, built.splits.test, "test")
    plan = built.task.plan
    summary = {
        "run": str(run.path),
        "data": built.splits.train.name.rsplit("/", 1)[0],
        "model": type(built.state.model).__name__,
        "test": part(test),
        "validation": part(validation),
        "best": {
            "step": best.step,
            "epoch": best.step / plan.steps_per_epoch,
            "accuracy": best.facts["best"]["accuracy"],
        },
        "steps": plan.steps,
        "parameters": sum(p.numel() for p in built.state.model.parameters()),
        "level": best.facts["level"],
        "seconds": seconds(run),
        "tax": tax,
    }
    run.write_json(SUMMARY, summary)
    _tell(run, summary, console)


def judged(run: Run, console: Console) -> Checkpoint:
    """Return the checkpoint that counts: the best by validation, or the newest that is good."""
    newest, problems = run.checkpoints.latest()
    for problem in problems:
        console.line(f"warning: {problem}")
    if newest is None:
        raise BadCheckpoint(f"{run.path} holds no checkpoint that verifies.")
    best = newest.facts["best"]["step"]
    if best in (0, newest.step):
        return newest
    try:
        return read(run.checkpoints.path(best))
    except BadCheckpoint as error:
        console.line(f"warning: {error} Taking the newest one, after step {newest.step}, instead.")
        return newest


def judge(run: Run, engine: Engine, built: Assembled, data: ImageSet, name: str) -> Metrics:
    """Predict each image of `data`, keep the table, return what it amounts to."""
    predictions = predict(engine, built.state.ema.model, data, built.task.prepare)
    if len(data):
        run.write(f"predictions/{name}.csv", prediction_table(data, predictions))
    return measure(predictions)


def record_opening(run: Run, step: int, n: int, why: str) -> None:
    """Write down that predictions on test images are about to be made."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run.append(OPENINGS, {"time": now, "checkpoint": step, "n": n, "why": why})


def part(metrics: Metrics) -> dict[str, Any] | None:
    """Return loss, accuracy, n and the 95 % interval for JSON; None where n is 0."""
    if not metrics.n:
        return None
    return {
        "accuracy": metrics.accuracy,
        "n": metrics.n,
        "correct": metrics.correct,
        "interval": list(wilson(metrics.correct, metrics.n)),
        "loss": metrics.loss,
    }


def write_curves(run: Run, built: Assembled) -> None:
    """Write `metrics.csv`, `figures/curves.png` and its numbers beside it."""
    rows = run.rows(run.metrics.name)
    run.write("metrics.csv", metrics_table(rows))
    plan, best = built.task.plan, built.state.best.step
    figure = curves(rows, run.name, plan.steps_per_epoch, best)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    content = {"steps_per_epoch": plan.steps_per_epoch, "best_step": best, "rows": rows}
    run.write_json("figures/curves.json", content)
    replace_file(run.path / "figures/curves.png", picture.getvalue(), run.disk)


def seconds(run: Run) -> float:
    """Return the seconds of training so far, over all sittings of the run."""
    total = last = 0.0
    for row in run.rows(TIMING):
        if row["seconds"] < last:  # a new sitting starts again at 0
            total += last
        last = row["seconds"]
    return round(total + last, 3)


def _tell(run: Run, summary: dict[str, Any], console: Console) -> None:
    best, test, validation = summary["best"], summary["test"], summary["validation"]
    console.line(f"best: epoch {best['epoch']:g}, after step {best['step']:,}")
    for name, scores in (("validation", validation), ("test", test)):
        if scores:
            console.line(f"{name} accuracy: {percent(scores['correct'], scores['n'])}")
    console.line(f"{summary['seconds']:.0f} s of training; recording took {summary['tax']:.1%}")
    console.line(f"curves: {run.path / 'figures/curves.png'}")
