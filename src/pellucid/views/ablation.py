"""View `ablation`: what each filter is worth, for each class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pellucid.inspection.ablation import Ablation, ablation
from pellucid.inspection.activations import find_sites
from pellucid.inspection.formulas import macs
from pellucid.inspection.sites import Site
from pellucid.inspection.trace import looking, trace
from pellucid.viewdata import DoesNotApply, Proof, ViewData
from pellucid.views.options import Options, choose
from pellucid.views.sample import sample
from pellucid.views.subject import Subject

TAKES = ("on", "layer", "count")
MOST, LEAST = 500, 32
"""Images that are judged: fewer for a network that costs more."""
WORK = 400_000_000_000
"""Multiplications for the whole view, about."""
UNITS = 64


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the change of accuracy, for each class, when a unit is set to 0, and to its mean.

    By default of the first layer. Of a layer with more than 64 units the first 64.

    Raises:
        BadOption: if the layer does not exist.
        DoesNotApply: if no layer has units that can be told apart.
    """
    image = next(sample(subject, Options(on=options.on), 1).batches(1))[0]
    every = find_sites(subject.model, image)[:-1]
    if not every:
        raise DoesNotApply("Before its last layer this model has no layer of units or maps.")
    names = [site.layer for site in every]
    site = every[names.index(choose("layer", options.layer or names[0], names))]
    units = range(min(UNITS, site.shape[0]))
    most = _affordable(subject, image, len(units))
    many = sample(subject, Options(on=options.on, count=options.count), most)
    batches = list(many.batches())
    found = ablation(subject.model, batches, site, len(subject.classes), units)
    shares = {"zero": _points(found, "zero"), "mean": _points(found, "mean")}
    total = int(found.n.sum())
    whole = {k: 100 * (getattr(found, k).sum(1) - found.baseline.sum()) / total for k in shares}
    numbers = {
        "layer": site.layer, "classes": list(subject.classes), "n": found.n, "units": list(units),
        "baseline": 100 * found.baseline / found.n.clamp_min(1),
        "baseline_all": 100 * float(found.baseline.sum()) / total,
        "zero": shares["zero"], "mean": shares["mean"],
        "zero_all": whole["zero"], "mean_all": whole["mean"],
    }  # fmt: skip
    order = whole["zero"].argsort(stable=True).tolist()
    one = 100 / total
    return ViewData(
        "ablation",
        f"{site.layer}: what each unit is worth. Accuracy {numbers['baseline_all']:.1f} %, and its "
        "change when one unit is taken away",
        numbers,
        (
            Proof("right answers with every unit replaced by itself - right answers",
                  float((found.nothing - found.baseline).abs().max()), 0),
            Proof("change of all - changes of the classes, weighted by their images (points)",
                  _weighted(found), 1e-6),
        ),
        ("unit", "set to 0", "set to its mean", "class that loses most"),
        tuple(
            (str(unit), f"{float(whole['zero'][unit]):+.1f}", f"{float(whole['mean'][unit]):+.1f}",
             _worst(subject, found, unit))
            for unit in order
        ),
        (
            f"Points of accuracy, on {many.text}; one image is {one:.2f} points, and for a class "
            f"of {int(found.n.min())} images {100 / max(1, int(found.n.min())):.1f}.",
            "Set to 0 also changes what later layers are used to; its mean does so less. Units "
            "stand in for each other: none alone may matter.",
        ) + _left_out(site),
        subject.provenance(images=many.text, layer=site.layer),
    )  # fmt: skip


def _affordable(subject: Subject, image: Tensor, units: int) -> int:
    """Return how many images are judged unless it was asked for: each two times for each unit."""
    with looking(subject.model), torch.no_grad():
        one = sum(macs(op) for op in trace(subject.model, image))
    return min(MOST, max(LEAST, WORK // max(1, one * (2 * units + 3))))


def _points(found: Ablation, key: str) -> Tensor:
    right: Tensor = getattr(found, key)
    return 100 * (right - found.baseline) / found.n.clamp_min(1)


def _weighted(found: Ablation) -> float:
    """Return how far the changes of the classes are from that of all images."""
    total = float(found.n.sum())
    worst = 0.0
    for row in (*found.zero, *found.mean):
        whole = 100 * (float(row.sum()) / total - float(found.baseline.sum()) / total)
        shares = [
            100 * (right / n - before / n) * n / total
            for right, before, n in zip(
                row.tolist(), found.baseline.tolist(), found.n.tolist(), strict=True
            )
            if n
        ]
        worst = max(worst, abs(whole - math.fsum(shares)))
    return worst


def _worst(subject: Subject, found: Ablation, unit: int) -> str:
    losses = _points(found, "zero")[unit]
    at = int(losses.argmin())
    return f"{subject.classes[at]} ({float(losses[at]):+.1f})" if float(losses[at]) < 0 else "-"


def _left_out(site: Site) -> tuple[str, ...]:
    if site.shape[0] <= UNITS:
        return ()
    return (f"The first {UNITS} of {site.shape[0]} units were tried.",)
