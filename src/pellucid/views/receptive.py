"""View `receptive-field`: what a unit can see by the formula, and what it leans on."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.inspection.activations import values_at
from pellucid.inspection.effective import gradient_energy
from pellucid.inspection.receptive import Field, fields
from pellucid.inspection.sites import Site, sites
from pellucid.inspection.trace import looking, trace
from pellucid.viewdata import DoesNotApply, Proof, ViewData
from pellucid.views.options import Options, choose, within
from pellucid.views.sample import Sample, sample
from pellucid.views.subject import Subject

TAKES = ("on", "layer", "unit", "place", "count")
MOST = 100


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the receptive field of one place of a map, in theory and in effect.

    By default of the last layer whose field has a formula, in the middle, of the unit that is most
    active there.

    Raises:
        BadOption: if layer, unit or place do not exist.
        DoesNotApply: if no layer's field has a formula.
    """
    many = sample(subject, Options(on=options.on, count=options.count), MOST)
    image = next(many.batches(1))[0]
    with looking(subject.model), torch.no_grad():
        ops = trace(subject.model, image)
    seen = fields(ops)
    known = {s.layer: (s, f) for s in sites(ops)
             if len(s.shape) == 3 and isinstance(f := seen[s.op], Field)}  # fmt: skip
    if not known:
        raise DoesNotApply(
            "No layer of this model sees a window of known size: each value depends on the whole "
            "image from the first layer on."
        )
    site, field = known[choose("layer with a known field", options.layer or list(known)[-1], known)]
    place = options.place or (site.shape[1] // 2, site.shape[2] // 2)
    for what, at, size in zip(("row", "column"), place, site.shape[1:], strict=True):
        within(what, at, size, f"The map of {site.layer}")
    unit = _unit(subject, many, site, place) if options.unit is None else within(
        "unit", options.unit, site.shape[0], f"The layer {site.layer}"
    )  # fmt: skip
    energy = gradient_energy(
        subject.model, (x for x, _ in many.batches(50)), site.op, unit, place
    ).cpu()  # fmt: skip
    box = field.box(place, (subject.shape[1], subject.shape[2]))
    top, left, bottom, right = box
    outside = energy.clone()
    outside[top:bottom, left:right] = 0
    total = float(energy.sum())
    numbers = {
        "layer": site.layer, "unit": unit, "place": list(place), "box": list(box),
        "energy": energy, "field": list(field.size), "jump": list(field.jump),
        "image": many.data.pixels(torch.tensor([0]))[0], "n": len(many),
        "half": _half(energy), "box_pixels": (bottom - top) * (right - left),
        "layers": [{"layer": name, "after": s.call.strip("_"), "field": list(f.size),
                    "jump": list(f.jump)} for name, (s, f) in known.items()],
    }  # fmt: skip
    notes = [
        f"Half of the energy lies in {numbers['half']} of the {numbers['box_pixels']} pixels that "
        "the formula gives."
    ]
    if total == 0:
        notes = ["The gradient is 0 everywhere: this unit is not active at this place on any of "
                 "these images. Choose another with --unit."]  # fmt: skip
    return ViewData(
        "receptive-field",
        f"{site.layer}, unit {unit} at row {place[0]}, column {place[1]}: sees "
        f"{field.size[0]}x{field.size[1]} pixels, and leans on these",
        numbers,
        (Proof("largest energy of the gradient outside the box", float(outside.max()), 0),),
        ("layer", "receptive field", "pixels per step"),
        tuple((name, f"{f.size[0]}x{f.size[1]}", f"{f.jump[0]}x{f.jump[1]}")
              for name, (_, f) in known.items()),
        tuple(notes), subject.provenance(images=many.text, layer=site.layer, unit=unit),
    )  # fmt: skip


def _unit(subject: Subject, many: Sample, site: Site, place: tuple[int, int]) -> int:
    """Return the unit that is most active at `place`, over the images."""
    total = torch.zeros(site.shape[0], dtype=torch.float64, device=subject.device)
    with looking(subject.model), torch.no_grad():
        for x, _ in many.batches():
            found, _ = values_at(subject.model, x, [site])
            total += found[site.op][:, :, place[0], place[1]].sum(0, dtype=torch.float64)
    return int(total.argmax())


def _half(energy: Tensor) -> int:
    """Return how many pixels, the strongest first, hold half of the energy."""
    order = energy.flatten().sort(descending=True).values
    if float(order.sum()) == 0:
        return 0
    return int((order.cumsum(0) < order.sum() / 2).sum()) + 1
