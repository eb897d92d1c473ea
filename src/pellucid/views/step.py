"""View `step`: the first training step of the run under glass."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pellucid.inspection.onestep import SCALES, Checks, OneStep
from pellucid.viewdata import Proof, ViewData, short
from pellucid.views.firststep import CHECKED, FirstStep, chance, first_step
from pellucid.views.options import Options
from pellucid.views.subject import Subject

TAKES: tuple[str, ...] = ()
IMAGES = 16


def compute(subject: Subject, options: Options) -> ViewData:
    """Return tensors, loss, gradients and update of the run's first step, and its forecast.

    Raises:
        DoesNotApply: if this is no run whose recipe is known.
    """
    del options
    found = first_step(subject)
    seen, checks = found.seen, found.checks()
    checked = min(CHECKED, len(found.batch.images))
    real = seen.after - seen.loss
    images = found.built.preprocessing.undo(found.batch.images[:IMAGES])
    targets = found.batch.targets
    hard = targets.argmax(1) if targets.dim() == 2 else targets
    layers = _layers(seen)
    numbers = {
        "images": (255 * images).round().byte().cpu(), "labels": hard[:IMAGES].tolist(),
        "classes": list(subject.classes), "batch": list(found.batch.images.shape),
        "lr": found.lr, "optimizer": found.optimizer,
        "loss": seen.loss, "after": seen.after, "forecast": seen.loss + seen.forecast,
        "chance": chance(len(subject.classes)), "scales": list(SCALES),
        "ratios": list(checks.ratios), "checked": checked, "layers": layers,
        "example": _example(seen),
    }  # fmt: skip
    return ViewData(
        "step",
        f"The first step of the run: {len(targets)} images, {found.optimizer}, learning rate "
        f"{short(found.lr)}. Loss {seen.loss:.4f} -> {seen.after:.4f} on the same batch",
        numbers, proofs(found, checks),
        ("weights", "size", "|w|", "|gradient|", "|change|", "change / weight"),
        tuple(
            (row["name"], f"{row['size']:,}", f"{row['weight']:.4g}", f"{row['gradient']:.3g}",
             f"{row['change']:.3g}", f"{row['ratio']:.2e}")
            for row in layers
        ),
        (
            f"A model that knows nothing has a loss of ln {len(subject.classes)} = "
            f"{chance(len(subject.classes)):.4f}; this one starts at {seen.loss:.4f}.",
            f"Forecast, gradient times change: {seen.forecast:+.4f}; really {real:+.4f}. The loss "
            "is curved: only of ever smaller steps does the forecast become true.",
            f"Forecast at a part of the step, second backward pass and plain SGD are checked on "
            f"{checked} of the {len(targets)} images of the batch.",
            _words(seen),
        ),
        subject.provenance(step=0, epoch=0, mode="train"),
    )  # fmt: skip


def proofs(found: FirstStep, checks: Checks) -> tuple[Proof, ...]:
    """Return the identities of a first step."""
    proofs = [
        Proof(f"(change of the loss) / forecast - 1, at {SCALES[-1]:g} of the step (float64)",
              abs(checks.ratios[-1] - 1), 0.05),
        Proof("gradient of a second backward pass without clearing - twice the gradient (relative)",
              checks.doubled, 1e-6),
        Proof("plain SGD on a copy: new weight - (weight - rate x gradient)", checks.sgd, 0),
    ]  # fmt: skip
    if found.start_miss is not None:
        proofs.append(
            Proof("weights drawn anew from the seed - copy of step 0", found.start_miss, 0)
        )
    return tuple(proofs)


def _layers(seen: OneStep) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, gradient in seen.gradients.items():
        weight, change = _norm(seen.before[name]), _norm(seen.changes[name])
        rows.append({
            "name": name, "size": gradient.numel(), "weight": weight, "gradient": _norm(gradient),
            "change": change, "ratio": change / weight if weight else math.nan,
        })  # fmt: skip
    return rows


def _example(seen: OneStep) -> dict[str, float | str]:
    """Return one weight: that of the first layer whose gradient is largest."""
    name = next(iter(seen.gradients))
    at = int(seen.gradients[name].abs().flatten().argmax())
    before = float(seen.before[name].flatten()[at])
    change = float(seen.changes[name].flatten()[at])
    return {
        "name": name, "at": at, "before": before, "change": change, "after": before + change,
        "gradient": float(seen.gradients[name].flatten()[at]),
    }  # fmt: skip


def _words(seen: OneStep) -> str:
    one = _example(seen)
    return (
        f"One weight, {one['name']}[{one['at']}]: {one['before']:.6f} -> {one['after']:.6f}, its "
        f"gradient {one['gradient']:+.6f}."
    )


def _norm(values: Tensor) -> float:
    return float(values.double().norm())
