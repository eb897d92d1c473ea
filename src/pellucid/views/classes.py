"""View `classes`: the weights of each class as features, and how classes lie to each other."""

from __future__ import annotations

import copy

import torch

from pellucid.inspection.templates import (
    Collapse,
    collapse,
    cosine_matrix,
    features,
    last_layer,
)
from pellucid.viewdata import DoesNotApply, Proof, ViewData
from pellucid.views.options import Options
from pellucid.views.sample import Sample, sample, work
from pellucid.views.subject import Subject

TAKES = ("on", "count")
MOST, LEAST = 500, 100
"""Images: fewer for a network that costs more, but ten of each class."""
WORK = 60_000_000_000
"""Multiplications of all passes, about."""


def compute(subject: Subject, options: Options) -> ViewData:
    """Return centred class weights, cosines between classes, and neural collapse over the run.

    Raises:
        DoesNotApply: if the model does not end in a linear layer, or a class has no image.
    """
    count = len(subject.classes)
    image = next(sample(subject, Options(on=options.on, count=1), 1, "train").batches(1))[0]
    layer = last_layer(subject.model, image)
    passes = 1 + len(subject.past or {})
    most = min(MOST, max(LEAST, 10 * count, WORK // (passes * work(subject, image))))
    many = sample(subject, Options(on=options.on, count=options.count), most, "train")
    missing = set(range(count)) - set(many.data.targets.tolist())
    if missing or count < 2:
        names = ", ".join(subject.classes[c] for c in sorted(missing)[:5])
        raise DoesNotApply(f"Each class needs an image among those looked at; none of: {names}.")
    centred = layer.centred
    still = [name for name, row in zip(subject.classes, centred, strict=True) if not row.any()]
    if still:
        raise DoesNotApply(
            f"The weights of {layer.layer} for {', '.join(still[:5])} are the mean over the "
            "classes: they have no direction to compare."
        )
    now = _collapse(subject.model, many, layer.op, count)
    over = _over_the_run(subject, many, layer.op)
    cosines = cosine_matrix(centred)
    numbers = {
        "layer": layer.layer, "classes": list(subject.classes), "weights": centred.cpu(),
        "weight_cosines": cosines.cpu(), "mean_cosines": now.cosines,
        "nc1": now.nc1, "nc2": now.nc2, "corner": -1 / (count - 1),
        "steps": [step for step, _ in over], "nc1_over": [c.nc1 for _, c in over],
        "nc2_over": [c.nc2 for _, c in over],
    }  # fmt: skip
    return ViewData(
        "classes",
        f"{layer.layer}: what it has learned of each class, and which classes are alike", numbers,
        (
            Proof("sum over the classes of the centred weights", _most(centred.sum(0)), 1e-9),
            Proof("cosine matrix - its transpose", _most(cosines - cosines.T), 1e-12),
            Proof("diagonal of the cosine matrix - 1", _most(cosines.diagonal() - 1), 1e-9),
            Proof("sum over the classes of the centred means", _most(now.means.sum(0)), 1e-6),
        ),
        ("class", "|centred weights|", "nearest by weights", "nearest by features"),
        tuple(_row(subject, c, centred, cosines, now) for c in range(count)),
        (
            f"NC1 {now.nc1:.3g}: spread within classes against between them, 0 when each image "
            f"lies on its class mean. NC2 {now.nc2:.3g}: how far the class means are from lying "
            f"apart as evenly as can be (cosine {-1 / (count - 1):.3f}).",
            "Weights weigh features, not pixels: they are no picture of the class.",
        ),
        subject.provenance(images=many.text, layer=layer.layer),
    )  # fmt: skip


def _collapse(model: torch.nn.Module, many: Sample, op: int, classes: int) -> Collapse:
    values, labels = features(model, many.batches(), op)
    return collapse(values, labels, classes)


def _over_the_run(subject: Subject, many: Sample, op: int) -> list[tuple[int, Collapse]]:
    """Return the collapse at each copy of the weights that the run kept."""
    other = copy.deepcopy(subject.model)
    found = []
    for step in sorted(subject.past or {}):
        other.load_state_dict(subject.snapshot(step))
        found.append((step, _collapse(other, many, op, len(subject.classes))))
    return found


def _row(
    subject: Subject, c: int, centred: torch.Tensor, cosines: torch.Tensor, now: Collapse
) -> tuple[str, ...]:
    texts = []
    for table in (cosines, now.cosines):
        row = table[c].clone()
        row[c] = -2
        at = int(row.argmax())
        texts.append(f"{subject.classes[at]} ({float(row[at]):+.2f})")
    return (subject.classes[c], f"{float(centred[c].norm()):.3f}", *texts)


def _most(values: torch.Tensor) -> float:
    return float(values.abs().max())
