"""View `activations`: what each layer makes of one image, and which units are of no use."""

from __future__ import annotations

import math

import torch

from pellucid.inspection.activations import Audit, audit, find_sites, values_at
from pellucid.inspection.sites import Site
from pellucid.inspection.trace import looking
from pellucid.viewdata import DoesNotApply, Proof, ViewData
from pellucid.views.options import IMAGE, Options, choose
from pellucid.views.picture import picture
from pellucid.views.sample import sample
from pellucid.views.subject import Subject

TAKES = (*IMAGE, "layer", "count")
LAYERS = 6
"""Layers that are looked at unless one is asked for, evenly spread over the model."""
MOST = 1000
UNITS = 64


def compute(subject: Subject, options: Options) -> ViewData:
    """Return maps of one image, and an audit of the units over many images.

    Raises:
        BadOption: if the layer does not exist.
        DoesNotApply: if no layer has units that can be told apart.
    """
    shown = picture(subject, options.taking(("image", "drawing", "index", "on")))
    every = find_sites(subject.model, shown.x)
    if not every:
        raise DoesNotApply("No layer of this model gives values (images, units) or maps.")
    names = [site.layer for site in every]
    if options.layer:
        where = [every[names.index(choose("layer", options.layer, names))]]
    else:
        where = _spread(every[:-1] or every)
    many = sample(subject, Options(on=options.on, count=options.count), MOST)
    found, moved = audit(subject.model, (x for x, _ in many.batches()), where)
    with looking(subject.model), torch.no_grad():
        values, _ = values_at(subject.model, shown.x, where)
    wrong = max(int((a.positive + a.zero + a.negative - a.places).abs().max()) for a in found)
    lengths = max(abs(a.places - len(many) * math.prod(a.site.shape[1:])) for a in found)
    numbers = {
        "image": shown.pixels[0], "sample": many.text,
        "layers": [
            {
                "layer": a.site.layer, "after": a.site.call.strip("_"),
                "shape": list(a.site.shape), "places": a.places,
                "maps": values[a.site.op][0][:UNITS], "limit": float(values[a.site.op].abs().max()),
                "active": a.positive / a.places, "maximum": a.maximum,
                "rectified": a.rectified, "dead": a.dead, "always_on": a.always_on,
                "duplicates": [list(pair) for pair in a.twins],
            }
            for a in found
        ],
    }  # fmt: skip
    return ViewData(
        "activations",
        f"What each layer makes of {shown.name}; units judged on {many.text}", numbers,
        (
            Proof("values above, at and below 0 - places x images", wrong, 0),
            Proof("places that were looked at - images x height x width", lengths, 0),
            Proof("logits while looking - logits", moved, 0),
        ),
        ("layer", "after", "units", "active", "dead", "always on", "duplicates"),
        tuple(_row(a) for a in found),
        (
            f"Judged on {many.text}: a unit that is dead there may wake for other images.",
            "active: mean share of places above 0. dead: never above 0. always on: everywhere "
            "above 0, so its ReLU does nothing. duplicates: values correlated above 0.999.",
        ),
        subject.provenance(image=shown.name, images=many.text),
    )  # fmt: skip


def _spread(every: list[Site]) -> list[Site]:
    count = min(LAYERS, len(every))
    return [every[round(i * (len(every) - 1) / max(1, count - 1))] for i in range(count)]


def _row(a: Audit) -> tuple[str, ...]:
    active = f"{100 * float((a.positive / a.places).mean()):.1f} %"
    if not a.rectified:
        return (a.site.layer, a.site.call.strip("_"), str(a.site.shape[0]), active, "-", "-",
                _some(len(a.twins), ""))  # fmt: skip
    return (
        a.site.layer, a.site.call.strip("_"), str(a.site.shape[0]), active,
        _some(len(a.dead), _list(a.dead)), _some(len(a.always_on), _list(a.always_on)),
        _some(len(a.twins), ", ".join(f"{i}={j}" for i, j in a.twins[:4])),
    )  # fmt: skip


def _some(count: int, text: str) -> str:
    return f"{count} ({text})" if count and text else str(count)


def _list(units: list[int]) -> str:
    return ", ".join(map(str, units[:6])) + ("..." if len(units) > 6 else "")
