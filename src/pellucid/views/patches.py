"""View `patches`: the pieces of training images that excite each unit of a layer most."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.inspection.calls import WEIGHTED
from pellucid.inspection.patches import (
    Spot,
    Strongest,
    look_again,
    middle_spot,
    spots,
    strongest,
)
from pellucid.viewdata import DoesNotApply, Proof, ViewData, short
from pellucid.views.options import Options, choose, within
from pellucid.views.sample import Sample, sample
from pellucid.views.subject import Subject

TAKES = ("on", "layer", "unit", "count")
MOST = 1000
UNITS = 64
SHOWN = 9
"""Patches of each unit."""
COUNTED = 100
"""Strongest images of each unit whose classes are counted; a tenth of them if that is less."""
SMALL = 32
"""Pixels of the longer side of a stored patch; larger ones are made smaller."""


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the nine strongest patches of each unit, no two of the same image.

    By default of training images, and of the deepest layer whose places see at most half of the
    image. Of a layer with more than 64 units the first 64, or the one that is asked for.

    Raises:
        BadOption: if layer or unit do not exist.
        DoesNotApply: if no layer has units that can be told apart.
    """
    many = sample(subject, Options(on=options.on, count=options.count), MOST, "train")
    known = spots(subject.model, next(many.batches(1))[0])
    spot = find_spot(known, options.layer, subject.shape[1:])
    most = max(SHOWN, min(COUNTED, len(many) // 10))
    best = strongest(subject.model, (x for x, _ in many.batches()), spot.site, most)
    scale = max(1.0, float(best.values.abs().max()))
    again = look_again(
        subject.model, (x for x, _ in many.batches(100)), spot, best, 1e-5 * scale
    )  # fmt: skip
    layer, total = spot.site.layer, spot.site.shape[0]
    units = (
        list(range(min(UNITS, total))) if options.unit is None
        else [within("unit", options.unit, total, f"The layer {layer}")]
    )  # fmt: skip
    found = [_unit(subject, many, spot, best, unit) for unit in units]
    sees = f"{spot.field.size[0]}x{spot.field.size[1]} pixels" if spot.field else "the whole image"
    numbers: dict[str, Any] = {
        "layer": layer, "units": found, "of": total, "sees": sees, "n": len(many),
        "classes": list(subject.classes),
        "image": list(subject.shape[1:]), "after": spot.site.call.strip("_"),
        "whole": _whole(many, found[0]) if options.unit is not None else None,
    }  # fmt: skip
    who = f"unit {units[0]}" if options.unit is not None else f"each of {len(units)} units"
    return ViewData(
        "patches",
        f"{layer}: what excites {who} most among {len(many):,} images; a place sees {sees}",
        numbers, _proofs(best, again.apart / scale, again.left_out, again.outside, scale),
        ("unit", "strongest", f"number {SHOWN}", "excited by", f"classes of the {most} strongest",
         "strongest image"),
        tuple(_row(one, len(many)) for one in found),
        _notes(spot, units, many, found),
        subject.provenance(images=many.text, layer=layer),
    )  # fmt: skip


def find_spot(known: list[Spot], layer: str | None, shape: tuple[int, ...]) -> Spot:
    """Return the layer that is asked for, else the one in the middle.

    Raises:
        BadOption: naming those that there are.
        DoesNotApply: if there is none.
    """
    if not known:
        raise DoesNotApply("No layer of this model gives values (images, units) or maps.")
    if layer is None:
        return middle_spot(known, (shape[0], shape[1]))
    names = [spot.site.layer for spot in known]
    return known[names.index(choose("layer", layer, names))]


def _unit(
    subject: Subject, many: Sample, spot: Spot, best: Strongest, unit: int
) -> dict[str, Any]:  # fmt: skip
    """Return what is known of one unit."""
    values = best.values[:, unit]
    excited = values > 0 if spot.site.call not in WEIGHTED else torch.ones_like(values).bool()
    ranks = excited.nonzero().flatten().tolist()
    labels = many.data.targets[best.images[ranks, unit]].tolist()
    patches = [_patch(subject, many, spot, best, unit, rank) for rank in ranks[:SHOWN]]
    counted = Counter(subject.classes[label] for label in labels)
    return {
        "unit": unit, "values": values[ranks[:SHOWN]].tolist(), "patches": patches,
        "classes": dict(counted.most_common()), "counted": len(ranks),
        "active": int((best.maxima[:, unit] > 0).sum()),
    }  # fmt: skip


def _patch(
    subject: Subject, many: Sample, spot: Spot, best: Strongest, unit: int, rank: int
) -> dict[str, Any]:
    image, at = int(best.images[rank, unit]), int(best.places[rank, unit])
    size = (subject.shape[1], subject.shape[2])
    box = spot.box(at, size)
    top, left, bottom, right = box
    index = torch.tensor([image])
    pixels = many.data.pixels(index)[0, :, top:bottom, left:right]
    label = int(many.data.label(index)[0])
    return {
        "value": float(best.values[rank, unit]), "place": list(spot.place(at)), "box": list(box),
        "window": list(spot.window(at, size)), "pixels": _smaller(pixels), "position": image,
        "image": many.data.describe(image), "class": subject.classes[label],
    }  # fmt: skip


def _smaller(pixels: Tensor) -> Tensor:
    """Return pixels uint8 (C, h, w), with at most 32 on the longer side."""
    longer = max(pixels.shape[1:])
    if longer <= SMALL:
        return pixels
    height, width = (max(1, side * SMALL // longer) for side in pixels.shape[1:])
    smaller = F.interpolate(pixels[None].float(), size=(height, width), mode="area")[0]
    return smaller.round().to(torch.uint8)


def _whole(many: Sample, found: dict[str, Any]) -> list[Tensor]:
    return [many.data.pixels(torch.tensor([p["position"]]))[0] for p in found["patches"]]


def _proofs(
    best: Strongest, apart: float, left_out: int, outside: float | None, scale: float
) -> tuple[Proof, ...]:
    rises = float((best.values[1:] - best.values[:-1]).clamp_min(0).max()) if len(
        best.values
    ) > 1 else 0.0  # fmt: skip
    order = best.images.sort(0).values
    twice = int((order[1:] == order[:-1]).sum())
    found = [
        Proof("value computed anew - recorded value (relative)", apart, 1e-5),
        Proof("images that are left out although they excite more", left_out, 0),
        Proof("rise of the values from one patch to the next", rises, 0),
        Proof("images that stand twice in the list of a unit", twice, 0),
    ]
    if outside is not None:
        found.append(
            Proof("value with all else than the patch taken from another image - value (relative)",
                  outside / scale, 1e-5)
        )  # fmt: skip
    return tuple(found)


def _row(one: dict[str, Any], n: int) -> tuple[str, ...]:
    values, classes = one["values"], list(one["classes"].items())
    if not values:
        return (str(one["unit"]), "-", "-", f"0 of {n:,} images", "-", "-")
    return (
        str(one["unit"]), short(values[0]), short(values[-1]) if len(values) == SHOWN else "-",
        f"{one['active']:,} of {n:,} images",
        ", ".join(f"{name} {count}" for name, count in classes[:3])
        + (f" and {len(classes) - 3} more" if len(classes) > 3 else ""),
        one["patches"][0]["image"],
    )  # fmt: skip


def _notes(spot: Spot, units: list[int], many: Sample, found: list[dict[str, Any]]) -> (
    tuple[str, ...]
):  # fmt: skip
    notes = [
        "One patch of each image at most, as stored, not normalised; grey hatching lies outside "
        "the image, where the layer sees its padding.",
        f"The strongest of {many.text}: what else excites a unit less is not seen here, and what "
        "excites it is not yet what the model uses it for (see ablation).",
    ]
    dead = [one["unit"] for one in found if not one["values"]]
    if dead:
        shown = ", ".join(map(str, dead[:8])) + ("..." if len(dead) > 8 else "")
        notes.append(f"Never above 0 on these images, so without a patch: {shown}.")
    tied = sum(len(one["values"]) > 1 and one["values"][0] == one["values"][1] for one in found)
    if tied:
        notes.append(f"Of {tied} units the largest values are equal, as behind a nonlinearity with "
                     "a cap: there the earlier image comes first.")  # fmt: skip
    if len(units) == UNITS < spot.site.shape[0]:
        notes.append(f"The first {UNITS} of {spot.site.shape[0]} units; others with --unit.")
    return tuple(notes)
