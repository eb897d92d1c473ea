"""The second half of the view `features`: how images lie to each other, over the run."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from pellucid.inspection.activations import find_sites
from pellucid.inspection.representation import (
    NEIGHBOURS,
    Aligned,
    Plane,
    Seen,
    align,
    cka,
    cka_by_features,
    neighbours,
    plane,
    see,
    turned,
)
from pellucid.inspection.sites import Site
from pellucid.inspection.templates import last_layer
from pellucid.seeds import generator
from pellucid.viewdata import DoesNotApply, Proof
from pellucid.views.options import Options
from pellucid.views.sample import Sample, sample
from pellucid.views.subject import Subject

MOST = 200
LAYERS = 8
"""Layers that are compared, evenly spread over the model."""
PANELS = 4
WIDE = 1024
"""Features that take part in a proof, at most."""


def representation(subject: Subject, options: Options) -> (
    tuple[dict[str, Any] | None, tuple[Proof, ...], tuple[str, ...]]
):  # fmt: skip
    """Return numbers, proofs and notes; None and a note where there are no such features."""
    many = sample(subject, Options(on=options.on, count=options.count), MOST)
    if len(many) < 3:
        return None, (), ("How images lie to each other needs at least three images.",)
    try:
        last = last_layer(subject.model, next(many.batches(1))[0])
    except DoesNotApply as reason:
        return None, (), (f"How images lie to each other is not shown: {reason}",)
    where = _spread(find_sites(subject.model, next(many.batches(1))[0]))
    steps, seen = _over_the_run(subject, many, where, last.op)
    labels = many.data.targets
    planes = [plane(one.features) for one in seen]
    ways = [align(p.points, planes[-1].points) for p in planes]
    now = seen[-1]
    numbers: dict[str, Any] = {
        "n": len(many), "last": last.layer, "steps": steps, "labels": labels,
        "layers": [site.layer for site in where],
        "cka_layers": now.tables @ now.tables.T,
        "cka_over": torch.stack([(one.tables * now.tables).sum(1) for one in seen], 1),
        "cka_steps": _between([one.features for one in seen]),
        "points": [way.points for way in ways],
        "shares": [p.shares[:2].tolist() for p in planes],
        "procrustes": [way.after for way in ways],
        "neighbours": [neighbours(s.features, labels, len(subject.classes)) for s in seen],
        "panels": _panels(len(steps)),
    }  # fmt: skip
    return numbers, _proofs(seen, planes, ways), _notes(subject, numbers)


def _spread(every: list[Site]) -> list[Site]:
    count = min(LAYERS, len(every))
    return [every[round(i * (len(every) - 1) / max(1, count - 1))] for i in range(count)]


def _panels(count: int) -> list[int]:
    """Return which copies are drawn, evenly spread, the last one among them."""
    most = min(PANELS, count)
    return sorted({round(i * (count - 1) / max(1, most - 1)) for i in range(most)} | {count - 1})


def _over_the_run(
    subject: Subject, many: Sample, where: list[Site], last: int
) -> tuple[list[int | None], list[Seen]]:
    """Return what the copies of the weights make of the images, and the model itself, as last."""
    earlier = [s for s in sorted(subject.past or {}) if subject.step is None or s < subject.step]
    other = copy.deepcopy(subject.model)
    found = []
    for step in earlier:
        other.load_state_dict(subject.snapshot(step))
        found.append(see(other, (x for x, _ in many.batches(100)), where, last))
    found.append(see(subject.model, (x for x, _ in many.batches(100)), where, last))
    return [*earlier, subject.step], found


def _between(features: list[Tensor]) -> Tensor:
    return torch.tensor([[cka(a, b) for b in features] for a in features], dtype=torch.float64)


def _proofs(seen: list[Seen], planes: list[Plane], ways: list[Aligned]) -> tuple[Proof, ...]:
    now, first = seen[-1].features[:, :WIDE], seen[0].features[:, :WIDE]
    other = first if len(seen) > 1 else now.clamp_min(float(now.mean()))
    varies = float((now - now.mean(0)).norm()) > 0
    alike = cka(now, other)
    again = cka(3 * turned(now, generator(0, "turn")), other)
    return (
        Proof("CKA of the features with themselves - 1", abs(cka(now, now) - 1) if varies else 0.0,
              1e-9),
        Proof("CKA by images - CKA by features", abs(alike - cka_by_features(now, other)), 1e-9),
        Proof("CKA of turned and tripled features - CKA", abs(again - alike), 1e-9),
        Proof("sum of the shares of variance - 1, where larger",
              max(max(0.0, float(p.shares.sum()) - 1) for p in planes), 1e-9),
        Proof("distance after alignment - distance before, where larger",
              max(max(0.0, way.after - way.before) for way in ways), 1e-9),
    )  # fmt: skip


def _notes(subject: Subject, n: dict[str, Any]) -> tuple[str, ...]:
    share = 100 * sum(n["shares"][-1])
    notes = [
        f"The plane holds {share:.0f} % of the variance of the features that enter {n['last']}: "
        "what looks near there may be far apart. Each plane is turned onto the last one; its axes "
        "mean nothing by themselves, and each has its own scale.",
        f"k-NN: share of {n['n']} images whose {NEIGHBOURS} nearest others have their class. CKA "
        "near 1 means that images lie to each other alike; it says nothing on right or wrong, and "
        "is often high before any training.",
    ]
    if len(n["steps"]) == 1:
        notes.append(
            "Only of the model as it is: "
            + (f"{subject.run.path} kept no earlier copies of the weights (record.snapshots 0?). "
               "Train with --record.snapshots 12 to see them over the run." if subject.run
               else "this is a model, not a run, and has no past.")
        )  # fmt: skip
    return tuple(notes)
