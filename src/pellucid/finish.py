"""The end of a run: the sealed test part is opened once, and everything is written down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pellucid.assemble import Assembled
from pellucid.engine import Engine
from pellucid.evaluate import predict
from pellucid.inference import judged
from pellucid.metrics.judgement import Temperature
from pellucid.runs.disk import replace_file
from pellucid.runs.evaluation import headline, keep_evaluation, temperature_from
from pellucid.runs.folder import OPENINGS, TIMING, Run
from pellucid.runs.tables import metrics_table
from pellucid.sinks.console import Console, percent
from pellucid.task import Task
from pellucid.values import ImageSet, Predictions


def finish(
    run: Run, engine: Engine, built: Assembled, tax: float, console: Console
) -> tuple[dict[str, Any], Predictions]:
    """Judge the best checkpoint on validation and, once, on test.

    Tables, numbers and curves are written; the summary is returned, and what the model says on
    validation.
    """
    steps, early = (
        built.state.step,
        built.state.stop.now and built.state.step < built.task.plan.steps,
    )
    with ThreadPoolExecutor(1) as beside:  # drawing needs no tensor: meanwhile the model is judged
        curves = beside.submit(write_curves, run, built.task, built.state.best.step)
        found = judged(run)
        for problem in found.problems:
            console.line(f"warning: {problem}")
        best = found.checkpoint
        built.state.load(best.tensors, best.facts)
        splits = built.splits
        said = predict(engine, built.state.ema.model, splits.validation, built.task.prepare)
        temperature = temperature_from(said)
        validation = part(run, splits.validation, said, "validation", best.step, temperature)
        test = None
        if len(splits.test):
            record_opening(run, best.step, len(splits.test), "end of training")
            on_test = predict(engine, built.state.ema.model, splits.test, built.task.prepare)
            test = part(run, splits.test, on_test, "test", best.step, temperature)
        curves.result()
    plan = built.task.plan
    summary = {
        "run": str(run.path),
        "data": built.splits.train.name.rsplit("/", 1)[0],
        "relabelled": splits.relabelled and asdict(splits.relabelled),
        "model": type(built.state.model).__name__,
        "test": test,
        "validation": validation,
        "best": {
            "step": best.step,
            "epoch": best.step / plan.steps_per_epoch,
            "accuracy": validation["accuracy"] if validation else None,
        },
        "steps": steps,
        "stopped_early": early,
        "precision": engine.precision,
        "parameters": sum(p.numel() for p in built.state.model.parameters()),
        "level": best.facts["level"],
        "seconds": seconds(run),
        "tax": tax,
    }
    return summary, said


def record_opening(run: Run, step: int, n: int, why: str) -> None:
    """Write down that predictions on test images are about to be made."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run.append(OPENINGS, {"time": now, "checkpoint": step, "n": n, "why": why})


def part(
    run: Run,
    data: ImageSet,
    said: Predictions,
    name: str,
    checkpoint: int,
    temperature: Temperature | None,
) -> dict[str, Any] | None:
    """Write what the model says on one part, and return the numbers that a summary holds of it.

    None where there are no images.
    """
    if not len(data):
        return None
    return headline(keep_evaluation(run, data, said, name, checkpoint, temperature))


def write_curves(run: Run, task: Task, best: int) -> None:
    """Write `metrics.csv`, `figures/curves.png` and its numbers beside it; mark the step `best`.

    Vital signs, which are lists of layers, stay in `metrics.jsonl` alone.
    """
    rows = [row for row in run.rows(run.metrics.name) if row["kind"] in ("step", "evaluation")]
    run.write("metrics.csv", metrics_table(rows))
    from pellucid.figures.curves import curves  # here: Matplotlib takes half a second to load
    from pellucid.figures.render import png

    plan = task.plan
    points = sorted({plan.steps * i // 200 for i in range(200)})
    schedule = [(step, task.schedule(step)) for step in points]
    figure = curves(rows, run.name, plan.steps_per_epoch, best, schedule)
    content = {
        "steps_per_epoch": plan.steps_per_epoch,
        "best_step": best,
        "rows": rows,
        "schedule": schedule,
    }
    run.write_json("figures/curves.json", content)
    replace_file(run.path / "figures/curves.png", png(figure), run.disk)


def seconds(run: Run) -> float:
    """Return the seconds of training so far, over all sittings of the run."""
    total = last = 0.0
    for row in run.rows(TIMING):
        if row["seconds"] < last:  # a new sitting starts again at 0
            total += last
        last = row["seconds"]
    return round(total + last, 3)


def result_text(summary: dict[str, Any]) -> str:
    """Return what a person wants to know of a finished run, a line each."""
    best = summary["best"]
    lines = [f"best: epoch {best['epoch']:.3g}, after step {best['step']:,}"]
    for name in ("validation", "test"):
        scores = summary[name]
        if scores:
            lines.append(f"{name} accuracy: {percent(scores['correct'], scores['n'])}")
    table = summary.get("relabelled")
    if table:
        lines.append(
            f"labels: {sum(table['changed']):,} corrected, {sum(table['left_out']):,} images left "
            f"out, by {table['file']}"
        )
    found = summary.get("diagnosis", ())
    if found:
        lines.append(f"diagnosis: {', '.join(f['severity'] + ' ' + f['name'] for f in found)}")
    run = Path(summary["run"])
    time = f"{summary['seconds']:.0f} s of training; recording took {summary['tax']:.1%} of it"
    return "\n".join([*lines, time, f"curves: {run / 'figures/curves.png'}", f"run: {run}"])
