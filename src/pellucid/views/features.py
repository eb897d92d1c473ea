"""View `features`: what units want, beside what they get; and how images lie to each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.inspection.patches import Spot, Strongest, spots, strongest
from pellucid.inspection.visualise import Ascent, Wanted, ascend, flat, middle, noise
from pellucid.viewdata import DoesNotApply, ViewData, short
from pellucid.views.features_proofs import kept_proofs, linear_proofs
from pellucid.views.flip import pixel_range
from pellucid.views.options import BadOption, Options, choose, within
from pellucid.views.patches import find_spot
from pellucid.views.representation import representation
from pellucid.views.sample import Sample, sample
from pellucid.views.subject import Subject

TAKES = ("on", "layer", "unit", "target", "count")
MOST = 500
UNITS = 6
BEST = 9
RANDOM = 50


def compute(subject: Subject, options: Options) -> ViewData:
    """Return pictures that excite units most, judged by real patches and by noise; and A14.

    By default of six units of the layer whose places see at most half of the image. With `target`
    of the logit of that class.

    Raises:
        BadOption: if layer, unit or class do not exist.
        DoesNotApply: if no layer has units that can be told apart.
    """
    many = sample(subject, Options(on=options.on, count=options.count), MOST, "train")
    image = next(many.batches(1))[0]
    known = spots(subject.model, image, before=True)
    spot, units = _chosen(subject, known, options)
    best = strongest(subject.model, (x for x, _ in many.batches()), spot.site, BEST)
    wanted = _wanted(subject, many, spot, best, units)
    channels = subject.shape[0]
    plain = ascend(subject.model, wanted, channels, smooth=False)
    smooth = ascend(subject.model, wanted, channels, smooth=True)
    random = noise(subject.model, wanted, channels, RANDOM)
    found = [
        _one(subject, many, spot, best, wanted, at, (plain, smooth), random[:, at])
        for at in range(len(units))
    ]
    rest, more, notes = representation(subject, options)
    layer = spot.site.layer
    numbers = {
        "layer": layer, "units": found, "of": spot.site.shape[0], "n": len(many),
        "random": RANDOM, "classes": list(subject.classes), "representation": rest,
        "target": options.target,
    }  # fmt: skip
    who = (f"the logit of {options.target} wants" if options.target
           else f"unit {units[0]} of {layer} wants" if len(units) == 1
           else f"{len(units)} of {spot.site.shape[0]} units of {layer} want")  # fmt: skip
    return ViewData(
        "features",
        f"What {who}, beside what real images give"
        + ("" if rest is None else "; and how images lie to each other"),
        numbers,
        (*linear_proofs(subject, image, units[0], wanted.radius[:1]),
         *kept_proofs(subject, wanted, plain, smooth), *more),
        ("unit", "optimum", "smooth optimum", "best real patch", "best of noise", "verdict"),
        tuple(_row(one) for one in found), (*_words(many), *notes),
        subject.provenance(images=many.text, layer=layer, target=options.target),
    )  # fmt: skip


def _chosen(subject: Subject, known: list[Spot], options: Options) -> tuple[Spot, list[int]]:
    """Return layer and units that are looked at."""
    if options.target is not None:
        if options.layer is not None or options.unit is not None:
            raise BadOption("Name either --target or --layer and --unit: a class is a unit itself.")
        unit = list(subject.classes).index(choose("class", options.target, subject.classes))
        if not known or known[-1].site.shape != (len(subject.classes),):
            raise DoesNotApply("The last layer with weights of this model does not give logits.")
        return known[-1], [unit]
    spot = find_spot(known, options.layer, subject.shape[1:])
    total = spot.site.shape[0]
    if options.unit is not None:
        return spot, [within("unit", options.unit, total, f"The layer {spot.site.layer}")]
    count = min(UNITS, total)
    return spot, [i * total // count for i in range(count)]


def _wanted(
    subject: Subject, many: Sample, spot: Spot, best: Strongest, units: list[int]
) -> Wanted:  # fmt: skip
    """Return what a picture may be: as strong as real patches, within what pixels can be."""
    shape = (subject.shape[1], subject.shape[2])
    place, mask = middle(spot, shape)
    sizes = []
    for unit in units:
        patches = [
            _patch(subject, many, spot, best, unit, rank)[0] for rank in range(len(best.values))
        ]
        sizes.append(float(torch.stack([patch.norm() for patch in patches]).median()))
    bounds = pixel_range(subject)
    return Wanted(
        spot.site.op, units, place, mask.to(subject.device),
        torch.tensor(sizes, device=subject.device).clamp_min(1e-6),
        bounds.low.flatten().float(), bounds.high.flatten().float(),
    )  # fmt: skip


def _patch(
    subject: Subject, many: Sample, spot: Spot, best: Strongest, unit: int, rank: int
) -> tuple[Tensor, Tensor]:
    """Return a real patch, prepared and as stored, (C, h, w)."""
    index = best.images[rank, unit].view(1)
    pixels = many.data.pixels(index)
    box = spot.box(int(best.places[rank, unit]), (subject.shape[1], subject.shape[2]))
    top, left, bottom, right = box
    cut = slice(top, bottom), slice(left, right)
    return subject.prepare(pixels)[0][:, *cut], pixels[0][:, *cut]


def _one(
    subject: Subject, many: Sample, spot: Spot, best: Strongest, wanted: Wanted, at: int,
    ascents: tuple[Ascent, Ascent], random: Tensor,
) -> dict[str, Any]:  # fmt: skip
    unit, (plain, smooth) = wanted.units[at], ascents
    real = best.maxima[:, unit]
    one: dict[str, Any] = {
        "unit": unit, "radius": float(wanted.radius[at]),
        "plain": _pixels(subject, plain.pictures[at], wanted.mask),
        "smooth": _pixels(subject, smooth.pictures[at], wanted.mask),
        "plain_value": float(plain.values[at]), "smooth_value": float(smooth.values[at]),
        "start": float(plain.course[0, at]), "course": plain.course[:, at],
        "real": real, "best_real": float(real.max()),
        "noise": random, "best_noise": float(random.max()),
        "flat": flat(plain.pictures[at], wanted.mask),
        "patches": [_patch(subject, many, spot, best, unit, rank)[1]
                    for rank in range(min(3, len(best.values)))],
        "images": [many.data.describe(int(i)) for i in best.images[:3, unit]],
    }  # fmt: skip
    one["verdict"], one["says"] = verdict(one)
    return one


def _pixels(subject: Subject, picture: Tensor, mask: Tensor) -> Tensor:
    """Return the part of a picture that counts, as pixels uint8 (C, h, w)."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    cut = picture[:, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    return (255 * subject.preprocessing.undo(cut[None])[0]).round().to(torch.uint8).cpu()


def verdict(one: dict[str, Any]) -> tuple[str, str]:
    """Return what an optimum is worth, in a word and in a sentence.

    Args:
        one: with `plain_value`, `start`, `flat`, `best_real` and `best_noise`.
    """
    value, real = one["plain_value"], one["best_real"]
    if not value > one["start"]:
        return "failed", "failed: no pixel has any effect on this unit"
    if one["flat"]:
        return "failed", "failed: a picture of one colour: it shows no pattern"
    if value <= one["best_noise"]:
        return "failed", "failed: random pictures excite it as much"
    if value <= real:
        return "inside", "inside the data range: real patches excite it as much, trust them"
    times = f"{value / real:.1f} times" if real > 0 else f"{value - real:.2g} more than"
    return (
        "above",
        f"above the data range: {times} the best real patch; no real image here does this",
    )


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(one["unit"]), short(one["plain_value"]), short(one["smooth_value"]),
        short(one["best_real"]), short(one["best_noise"]), one["says"],
    )  # fmt: skip


def _words(many: Sample) -> tuple[str, ...]:
    return (
        "Values are those before the nonlinearity. An optimum has at most the norm that the nine "
        "best real patches have (their median), within what pixels can be; smooth: with smoothed "
        "gradients and small shifts, for a picture with less noise and a lower value.",
        f"Real patches: of {many.text}. Noise: {RANDOM} random pictures of the same norm.",
        "An optimum above the data range shows what would excite the unit, not what it meets.",
    )
