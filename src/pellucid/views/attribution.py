"""View `attribution`: which pixels speak for a class, by six methods, each with its tests."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from pellucid.inspection.attribution import (
    Question,
    cam,
    grad_cam,
    methods,
    pooled_head,
    settled_gradients,
)
from pellucid.inspection.attribution_checks import (
    DEPENDS,
    by_chance,
    constant,
    curves,
    edges,
    likeness,
    randomised,
    spearman,
)
from pellucid.inspection.trace import looking
from pellucid.viewdata import DoesNotApply, Proof, ViewData, short
from pellucid.views.logits import classes
from pellucid.views.options import IMAGE, Options
from pellucid.views.picture import Picture, picture
from pellucid.views.subject import Subject

TAKES = (*IMAGE, "target")
GAP, LEAST = 0.01, 1e-3
"""Integrated gradients must add up to within this share of the difference, or this much."""


def compute(subject: Subject, options: Options) -> ViewData:
    """Return a map for each method, with what it passes and what it fails.

    Raises:
        BadOption: if the class does not exist.
    """
    shown = picture(subject, options)
    baseline = subject.prepare(torch.zeros_like(shown.pixels))  # black, where the network is
    model = subject.model
    with looking(model):
        with torch.no_grad():
            logits = model(shown.x)[0].double()
        target, _ = classes(subject, logits, options)
        q = Question(model, shown.x, baseline, target)
        change = float((q.logits(q.image) - q.logits(q.baseline))[0])
        gap = max(LEAST, GAP * abs(change))
        integrated, steps = settled_gradients(q, gap)
        miss = abs(float(integrated.sum()) - change)
        found = _methods(q, integrated, adds=miss <= gap)
        proofs = _proofs(q, Proof("sum of integrated gradients - (logit - logit of the baseline), "
                                  f"{steps:,} steps", miss, gap))  # fmt: skip
        without = float(q.logits(baseline)[0])
    name = subject.classes[target]
    agreement = {a: {b: spearman(found[a]["map"], found[b]["map"]) for b in found} for a in found}
    numbers = {
        "image": shown.pixels[0], "target": target, "class": name, "logit": float(logits[target]),
        "baseline_logit": without, "methods": found,
        "agreement": agreement, "depends_limit": DEPENDS,
    }  # fmt: skip
    return ViewData(
        "attribution", _title(subject, shown, logits, target), numbers, proofs,
        ("method", "evidence", "adds up to", "randomised", "deletion", "insertion", "passes"),
        tuple(_row(name, one) for name, one in found.items()),
        (
            f"Baseline: a black image (0 of 255, in the network's space "
            f"{', '.join(short(float(v)) for v in baseline[0, :, 0, 0])}), logit "
            f"{numbers['baseline_logit']:.3f}; the image has {numbers['logit']:.3f}.",
            "randomised: rank correlation of the sizes with the map of a model with shuffled "
            f"weights, where either shows something; below {DEPENDS} passes.",
            "deletion (insertion): mean logit while the first pixels go (come) first; passes if "
            "lower (higher) than in random order.",
            "A map says what moves this model's logit. It does not say what causes the class, and "
            "methods that pass may still disagree.",
        ),
        subject.provenance(image=shown.name, target=name),
    )  # fmt: skip


def _methods(q: Question, integrated: Tensor, *, adds: bool) -> dict[str, dict[str, Any]]:
    other = Question(randomised(q.model).eval(), q.image, q.baseline, q.target)
    chance = by_chance(q)
    found: dict[str, dict[str, Any]] = {}
    outlines = edges(q.image)
    for name, method in (
        *methods(q, integrated),
        ("edges of the image (no model)", lambda _: outlines),
    ):
        values = method(q).detach()
        nothing = constant(values)
        one: dict[str, Any] = {
            "map": torch.zeros_like(values) if nothing else values,
            "evidence": "none" if nothing else "yes", "sum": float(values.sum()),
        }  # fmt: skip
        if nothing:
            one["evidence"] = "no positive evidence" if name == "Grad-CAM" else "no evidence"
        sums = adds if name == "integrated gradients" else None
        one |= _tested(q, other, method, one["map"], nothing, chance, sums)
        found[name] = one
    return found


def _tested(
    q: Question, other: Question, method: Any, values: Tensor, nothing: bool, chance: Any,
    adds: bool | None,
) -> dict[str, Any]:  # fmt: skip
    """Return what a map passes: None where a test says nothing."""
    if nothing:
        nan = math.nan
        return {"randomised": nan, "deletion": nan, "insertion": nan, "by_chance": vars(chance),
                "passes": {"adds up": None, "depends on weights": None, "deletion": None,
                           "insertion": None}}  # fmt: skip
    alike = likeness(values, method(other).detach())
    along = curves(q, values)
    return {
        "randomised": alike, "deletion": along.deletion, "insertion": along.insertion,
        "by_chance": vars(chance),
        "passes": {
            "adds up": adds,
            "depends on weights": not alike >= DEPENDS,
            "deletion": along.deletion < chance.deletion,
            "insertion": along.insertion > chance.insertion,
        },
    }  # fmt: skip


def _proofs(q: Question, sums: Proof) -> tuple[Proof, ...]:
    found = [
        sums,
        Proof("gradient . direction - central difference (float64, relative)", _slope(q), 1e-4),
    ]  # fmt: skip
    try:
        pooled = pooled_head(q.model, q.image)
    except DoesNotApply:
        return tuple(found)
    map_ = cam(pooled, q.target)
    raw, _ = grad_cam(q, pooled.op)
    scale = max(1e-12, float(map_.abs().max()))
    logit = float(map_.double().mean() + pooled.bias[q.target])
    found += [
        Proof("mean of CAM and bias - logit", abs(logit - float(q.logits(q.image)[0])), 1e-4),
        Proof("Grad-CAM before ReLU x places - CAM (relative)",
              float((raw * map_.numel() - map_).abs().max()) / scale, 1e-4),
    ]  # fmt: skip
    return tuple(found)


def _slope(q: Question) -> float:
    """Return how far the gradient is from a measured slope, along the way from the baseline."""

    exact = Question(
        copy.deepcopy(q.model).double(), q.image.double(), q.baseline.double(), q.target
    )
    way = exact.image - exact.baseline
    way = way / way.norm().clamp_min(1e-12)
    slope = float((exact.gradients(exact.image) * way).sum())
    step = 1e-6
    ends = exact.logits(torch.cat([exact.image + step * way, exact.image - step * way]))
    measured = float(ends[0] - ends[1]) / (2 * step)
    return abs(slope - measured) / max(1e-3, abs(measured))


def _title(subject: Subject, shown: Picture, logits: Tensor, target: int) -> str:
    said = subject.classes[int(logits.argmax())]
    label = "" if shown.label is None else f", labelled {subject.classes[shown.label]}"
    return (
        f"Which pixels of {shown.name}{label} speak for {subject.classes[target]}? "
        f"(the model says {said}; logit {float(logits[target]):.3f})"
    )


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    passed = [test for test, ok in one["passes"].items() if ok]
    failed = [test for test, ok in one["passes"].items() if ok is False]
    text = f"passes {len(passed)} of {len(passed) + len(failed)}"
    if failed:
        text += f"; fails: {', '.join(failed)}"
    return (
        name, one["evidence"], f"{one['sum']:.3f}", f"{one['randomised']:.2f}",
        f"{one['deletion']:.2f} (chance {one['by_chance']['deletion']:.2f})",
        f"{one['insertion']:.2f} (chance {one['by_chance']['insertion']:.2f})", text,
    )  # fmt: skip
