"""View `microscope`: one unit at one place, every product that adds up to its value."""

from __future__ import annotations

from typing import Any

import torch

from pellucid.inspection.convolution import Cells, Convolution, cells, convolutions, naive
from pellucid.viewdata import Proof, ViewData, short
from pellucid.views.options import IMAGE, Options, choose, within
from pellucid.views.picture import picture
from pellucid.views.subject import Subject

TAKES = (*IMAGE, "layer", "unit", "place")
CHANNELS = 6
"""Channels whose cells are drawn: those that add most."""


def compute(subject: Subject, options: Options) -> ViewData:
    """Return patch, kernel and products of one value of one map.

    By default of the first convolution, where the image excites it most.

    Raises:
        BadOption: if layer, unit or place do not exist.
        DoesNotApply: if the model has no convolution.
    """
    shown = picture(subject, options)
    layers = convolutions(subject.model, shown.x)
    names = [layer.name for layer in layers]
    layer = layers[names.index(choose("convolution", options.layer or names[0], names))]
    unit, place = _where(layer, options)
    found = cells(layer, unit, place)
    scale = float(found.products.abs().sum()) + abs(found.bias) or 1.0
    partial = found.products.sum((1, 2))
    order = partial.abs().argsort(descending=True, stable=True).tolist()
    by_channel = [
        (f"channel {found.channels[i]}", float(partial[i])) for i in order[:CHANNELS]
    ]  # fmt: skip
    rest = float(partial[order[CHANNELS:]].sum())
    after = None if layer.after is None else float(layer.after[1][unit, place[0], place[1]])
    name = layer.after[0] if layer.after else ""
    numbers: dict[str, Any] = {
        "image": shown.pixels[0], "layer": layer.name, "unit": unit, "place": list(place),
        "map": layer.out[unit], "box": _box(subject, layer, place),
        "channels": [found.channels[i] for i in order[:CHANNELS]],
        "patch": found.patch[order[:CHANNELS]], "kernel": found.kernel[order[:CHANNELS]],
        "products": found.products[order[:CHANNELS]], "padded": found.padded,
        "partial_sums": partial, "bias": found.bias, "total": found.total, "value": found.value,
        "after": after, "activation": name,
        "bars": [*by_channel, *([("other channels", rest)] if order[CHANNELS:] else []),
                 ("bias", found.bias), ("sum", found.total)],
    }  # fmt: skip
    proofs = (
        Proof("sum of cells and bias - value in the map (relative)",
              abs(found.total - found.value) / scale, 1e-5),
        Proof("sum of cells and bias - three plain loops (relative)",
              abs(found.total - naive(layer, unit, place)) / scale, 1e-12),
    )  # fmt: skip
    title = (
        f"{layer.name}, unit {unit} at row {place[0]}, column {place[1]}: "
        f"{len(found.channels)} x {found.padded.shape[0]} x {found.padded.shape[1]} products and "
        f"the bias give {found.value:.4f}"
        + (f", after {name} {after:.4f}" if after is not None else "")
    )
    return ViewData(
        "microscope", title, numbers, proofs, ("adds", "value"),
        tuple((name, short(value)) for name, value in numbers["bars"]),
        _notes(subject, layer, found),
        subject.provenance(
            image=shown.name, layer=layer.name, unit=unit,
            place=f"row {place[0]}, column {place[1]}",
        ),
    )  # fmt: skip


def _where(layer: Convolution, options: Options) -> tuple[int, tuple[int, int]]:
    """Return unit and place: those asked for, else where the value is largest."""
    units, height, width = layer.out.shape
    if options.unit is None:
        best = layer.out.flatten(1)
        if options.place:
            _check(layer, options.place)
            best = layer.out[:, options.place[0], options.place[1]][:, None]
        unit = int(best.amax(1).argmax())
    else:
        unit = within("unit", options.unit, units, f"The layer {layer.name}")
    if options.place:
        _check(layer, options.place)
        return unit, options.place
    at = int(layer.out[unit].flatten().argmax())
    return unit, (at // width, at % width)


def _check(layer: Convolution, place: tuple[int, int]) -> None:
    for what, at, size in zip(("row", "column"), place, layer.out.shape[1:], strict=True):
        within(what, at, size, f"The map of {layer.name}")


def _box(subject: Subject, layer: Convolution, place: tuple[int, int]) -> list[int] | None:
    if layer.seen is None:
        return None
    return list(layer.seen.box(place, (subject.shape[1], subject.shape[2])))


def _notes(subject: Subject, layer: Convolution, found: Cells) -> tuple[str, ...]:
    notes = []
    if bool(found.padded.any()):
        text = f"{int(found.padded.sum())} cells of the patch lie in the padding; they are 0."
        if layer.of_image:
            raw = ", ".join(f"{255 * mean:.1f}" for mean in subject.preprocessing.mean)
            text += f" In pixels that is the mean grey, {raw} of 255, not black."
        notes.append(text)
    if torch.count_nonzero(found.patch) == 0:
        notes.append("The whole patch is 0: only the bias is left.")
    return tuple(notes)
