"""View `logits`: an image, its features, its logits, their softmax; every arrow is a sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.inspection.logits import Hop, Walk, logit_walk, softmax
from pellucid.viewdata import Proof, ViewData, short
from pellucid.views.options import IMAGE, Options, choose
from pellucid.views.picture import picture
from pellucid.views.subject import Subject

TAKES = (*IMAGE, "target", "against", "count")
REASONS = 5
BARS = 10
"""Channels that get a bar of their own."""


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the logits of one image as sums, and the top reasons for one class and not another.

    Raises:
        DoesNotApply: if the model does not end in a linear layer.
        BadOption: if a class does not exist.
    """
    shown = picture(subject, options)
    walk = logit_walk(subject.model, shown.x)
    target, against = classes(subject, walk.logits, options)
    deep = walk.hops[-1]
    apart = deep.contributions[target] - deep.contributions[against]
    bias = deep.bias[target] - deep.bias[against]
    reasons = [_reasons(hop, target, against, options.count or REASONS) for hop in walk.hops]
    a, b = subject.classes[target], subject.classes[against]
    p = softmax(walk.logits)
    label = None if shown.label is None else subject.classes[shown.label]
    title = (
        f"Why {a} and not {b}? {shown.name}"
        f"{'' if label is None else f', labelled {label}'}: logit {walk.logits[target]:.3f} "
        f"against {walk.logits[against]:.3f}, probability {100 * float(p[target]):.2f} % against "
        f"{100 * float(p[against]):.2f} %"
    )
    numbers = {
        "image": shown.pixels[0], "classes": list(subject.classes),
        "target": target, "against": against, "label": shown.label,
        "logits": walk.logits, "softmax": p,
        "layer": deep.layer, "features": deep.maps, "difference_bias": bias,
        "difference": apart, "difference_by_channel": apart.sum((1, 2)),
        "difference_by_place": apart.sum(0), "difference_bars": _bars(apart, float(bias)),
        "hops": [
            {"layer": hop.layer, "shape": list(hop.maps.shape), "reasons": found}
            for hop, found in zip(walk.hops, reasons, strict=True)
        ],
    }  # fmt: skip
    return ViewData(
        "logits", title, numbers, proofs(walk, target, against),
        ("layer", "feature", "value", f"weight {a} - {b}", f"for {a}, not {b}"),
        tuple(
            (hop.layer, _named(r["place"], hop), short(r["value"]), short(r["weight"]),
             short(r["contribution"]))
            for hop, found in zip(walk.hops, reasons, strict=True)
            for r in found
        ),
        (
            f"A feature is what enters the layer. logit {a} - logit {b} = sum over the features of "
            "value times difference of weights, plus the difference of the biases.",
            "Only differences between classes count: the same number added to all logits leaves "
            "the softmax as it is.",
        ),
        subject.provenance(image=shown.name, target=a, against=b),
    )  # fmt: skip


def classes(subject: Subject, logits: Tensor, options: Options) -> tuple[int, int]:
    """Return the two classes that are compared: those asked for, or the first two by logit."""
    names = list(subject.classes)
    order: list[int] = logits.argsort(descending=True, stable=True).tolist()
    target = names.index(choose("class", options.target, names)) if options.target else order[0]
    rest = [c for c in order if c != target]
    if options.against:
        return target, names.index(
            choose("class", options.against, [names[c] for c in sorted(rest)])
        )
    return target, rest[0]


def proofs(walk: Walk, target: int, against: int) -> tuple[Proof, ...]:
    """Return the identities of a walk."""
    found = []
    for hop in walk.hops:
        parts = hop.contributions
        total = parts.flatten(1).sum(1) + hop.bias
        found.append(
            Proof(f"sum of contributions at {hop.layer} - logit", _most(total - walk.logits), 1e-4)
        )
    deep = walk.hops[-1]
    apart = deep.contributions[target] - deep.contributions[against]
    by_channel, by_place = apart.sum((1, 2)).sum(), apart.sum(0).sum()
    named = [deep.maps[deep.place(i)] for i in range(deep.maps.numel())]
    order = _most(torch.stack(named) - deep.maps.flatten())
    p = softmax(walk.logits)
    shift = torch.linspace(-1, 1, deep.weights.shape[1], dtype=torch.float64, device=p.device)
    moved = (deep.weights + shift) @ deep.maps.reshape(-1) + deep.bias
    found += [
        Proof("feature named by channel, row, column - feature in the vector", order, 0),
        Proof("sum by channel - sum by place", abs(float(by_channel - by_place)), 1e-9),
        Proof("sum of the softmax - 1", abs(float(p.sum()) - 1), 1e-12),
        Proof("softmax after one vector is added to all rows of the weights - softmax",
              _most(softmax(moved) - p), 1e-5),
    ]  # fmt: skip
    return tuple(found)


def _bars(apart: Tensor, bias: float) -> list[tuple[str, float]]:
    """Return what the strongest channels, all others, and the bias add to a difference."""
    values = apart.sum((1, 2))
    order = values.abs().argsort(descending=True, stable=True)
    best, rest = order[:BARS].tolist(), order[BARS:]
    bars = [(f"channel {i}", float(values[i])) for i in best]
    return [*bars, ("other channels", float(values[rest].sum())), ("bias", bias)]


def _most(values: Tensor) -> float:
    return float(values.abs().max())


def _reasons(hop: Hop, target: int, against: int, count: int) -> list[dict[str, Any]]:
    """Return the features that speak most for one class and not the other."""
    weight = hop.weights[target] - hop.weights[against]
    flat = hop.maps.reshape(-1)
    parts = weight * flat
    best = parts.argsort(descending=True, stable=True)[:count].tolist()
    return [
        {"index": i, "place": hop.place(i), "value": float(flat[i]), "weight": float(weight[i]),
         "contribution": float(parts[i])}
        for i in best
    ]  # fmt: skip


def _named(place: object, hop: Hop) -> str:
    assert isinstance(place, tuple)
    channel, y, x = place
    return f"{channel}" if hop.maps.shape[1:] == (1, 1) else f"channel {channel}, ({y}, {x})"
