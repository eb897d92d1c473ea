"""View `life`: the twelve stages of a run, each with its line of code and this run's values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from pellucid.assemble import build_model
from pellucid.data.batches import Batches
from pellucid.finish import write_curves
from pellucid.loop import fit
from pellucid.runs.folder import METRICS, Run
from pellucid.viewdata import DoesNotApply, Proof, ViewData, short
from pellucid.views.firststep import FirstStep, chance, first_step, shares
from pellucid.views.options import Options
from pellucid.views.subject import Subject

TAKES: tuple[str, ...] = ()


class Line(NamedTuple):
    """A line of our own code: where it stands, and what it says."""

    place: str
    code: str


def line_of(function: Callable[..., Any] | type, text: str) -> Line:
    """Return the first line of the source of `function` that holds `text`.

    >>> line_of(fit, "engine.backward").code
    'engine.backward(loss)'
    """
    lines, first = inspect.getsourcelines(function)
    file = (inspect.getsourcefile(function) or "").replace("\\", "/").rsplit("pellucid/", 1)[-1]
    for number, line in enumerate(lines, first):
        if text in line:
            return Line(f"{file}, line {number}", line.strip())
    raise AssertionError(f"{file} has no line with {text}")


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the stages of a run from its first weights to its last picture.

    Raises:
        DoesNotApply: if this is no run whose recipe is known.
    """
    del options
    run = subject.run
    if run is None:
        raise DoesNotApply("This is the life of a run; here is a model without one.")
    found = first_step(subject)
    rows = run.rows(METRICS)
    summary = run.summary()
    stages = _stages(subject, run, found, rows, summary)
    best = max((r["validation"]["accuracy"] for r in rows
                if r["kind"] == "evaluation" and r["validation"]), default=None)  # fmt: skip
    proofs = [Proof("stages without a line of code", sum(not s["code"] for s in stages), 0)]
    if found.start_miss is not None:
        proofs.append(
            Proof("weights drawn anew from the seed - copy of step 0", found.start_miss, 0)
        )
    if summary and best is not None and summary["best"]["accuracy"] is not None:
        kept = summary["best"]["accuracy"]
        proofs.append(Proof("accuracy of the kept model, judged again - best in the rows",
                            abs(kept - best), 1e-9))  # fmt: skip
    return ViewData(
        "life", f"The life of {run.name}, stage by stage", {"stages": stages}, tuple(proofs),
        ("stage", "where", "in this run"),
        tuple((f"{i}. {s['stage']}", s["place"], s["value"]) for i, s in enumerate(stages, 1)),
        (), subject.provenance(),
    )  # fmt: skip


def _stages(
    subject: Subject, run: Run, found: FirstStep, rows: list[dict[str, Any]],
    summary: dict[str, Any] | None,
) -> list[dict[str, str]]:  # fmt: skip
    seen, task = found.seen, found.built.task
    plan = task.plan
    train = len(found.built.splits.train)
    count = len(subject.classes)
    numbers = sum(p.numel() for p in found.built.state.model.parameters())
    first = next(iter(seen.gradients))
    at = int(seen.gradients[first].abs().argmax())
    weight = float(seen.before[first].flatten()[at])
    change = float(seen.changes[first].flatten()[at])
    norm = sum(float(g.double().norm()) ** 2 for g in seen.gradients.values()) ** 0.5
    shape = "x".join(map(str, found.batch.images.shape))
    right = shares(found.logits, found.batch.targets)
    stages = (
        ("random weights", line_of(build_model, 'reseed(recipe.seed, "init")'),
         _drawn(subject, numbers, task.seed)),
        ("batches", line_of(Batches, "steps_per_epoch"),
         f"{train:,} training images, {plan.steps_per_epoch:,} batches an epoch"),
        ("one batch", line_of(fit, "task.augment("),
         f"the first one: {shape}, augmented and prepared"),
        ("forward", line_of(fit, "logits = model"),
         f"{len(found.logits)}x{count} logits; the right class gets {100 * right:.1f} % "
         f"(chance {100 / count:.1f} %)"),
        ("loss", line_of(fit, "loss = task.loss"),
         f"{seen.loss:.4f}; who knows nothing has ln {count} = {chance(count):.4f}"),
        ("backward", line_of(fit, "engine.backward"),
         f"a gradient for each of {len(seen.gradients)} tensors, norm {norm:.3f}"),
        ("update", line_of(fit, "engine.step"),
         f"{first}[{at}]: {weight:.6f} -> {weight + change:.6f} ({found.optimizer}, rate "
         f"{short(found.lr)}); loss of this batch now {seen.after:.4f}"),
        ("clearing", line_of(fit, "zero_grad"),
         "no gradient is left" if found.cleared else "gradients are left"),
        ("and again", line_of(fit, "while state.step"), _again(rows, plan.steps)),
        ("validation", line_of(fit, "evaluation = evaluate"), _judged(rows)),
        ("best model", line_of(fit, "state.best.offer"), _best(summary)),
        ("pictures, report", line_of(write_curves, "def write_curves"), _files(run)),
    )  # fmt: skip
    return [
        {"stage": name, "place": line.place, "code": line.code, "value": value}
        for name, line, value in stages
    ]


def _drawn(subject: Subject, numbers: int, seed: int) -> str:
    """Return where the first weights come from."""
    file = getattr(subject.recipe.model, "pretrained", "") if subject.recipe else ""
    if not file:
        return f"{numbers:,} numbers drawn from seed {seed}"
    return f"{numbers:,} numbers: the head drawn from seed {seed}, the rest from {file}"


def _again(rows: list[dict[str, Any]], steps: int) -> str:
    losses = [row for row in rows if row["kind"] == "step"]
    text = f"{steps:,} steps in all"
    if not losses:
        return text
    first, last = losses[0], losses[-1]
    return (
        f"{text}; mean loss {first['loss']:.3f} up to step {first['step']:,}, "
        f"{last['loss']:.3f} at step {last['step']:,}"
    )


def _judged(rows: list[dict[str, Any]]) -> str:
    found = [r for r in rows if r["kind"] == "evaluation" and r["validation"]]
    if not found:
        return "no evaluation on validation images so far"
    first, last = found[0]["validation"], found[-1]["validation"]
    if len(found) == 1:
        return f"once, on {last['n']:,} images: accuracy {100 * last['accuracy']:.1f} %"
    return (
        f"{len(found)} times on {last['n']:,} images: accuracy {100 * first['accuracy']:.1f} % the "
        f"first time, {100 * last['accuracy']:.1f} % the last"
    )


def _best(summary: dict[str, Any] | None) -> str:
    if not summary:
        return "the run is not finished"
    best = summary["best"]
    text = f"that of step {best['step']:,} (epoch {best['epoch']:.3g})"
    return text if best["accuracy"] is None else f"{text}, {100 * best['accuracy']:.2f} %"


def _files(run: Run) -> str:
    names = ("figures/curves.png", "summary.json", "report.html")
    there = [name for name in names if (run.path / name).is_file()]
    return ", ".join(there) if there else "none so far"
