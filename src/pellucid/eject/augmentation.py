"""The function `augment` of a script: what is on, in the one order that there is."""

from __future__ import annotations

from collections.abc import Mapping

from pellucid.augment.pipeline import COLOURED, HIDDEN, MAPPED, MIXED, STORED
from pellucid.augment.rows import Operation
from pellucid.eject.collect import Collector
from pellucid.eject.layout import WIDTH
from pellucid.eject.source import Import

NOTHING = {
    "rotate": "torch.zeros(len(images))",
    "translate": "torch.zeros(len(images), 2)",
    "scale": "torch.ones(len(images))",
}
"""What is drawn where a part of the map is off."""


def mixes(on: Mapping[str, Operation]) -> bool:
    """Return whether pairs of images are mixed, and their targets with them."""
    return not on.keys().isdisjoint(MIXED)


def alternates(on: Mapping[str, Operation]) -> bool:
    """Return whether images are mirrored in every other epoch."""
    return getattr(on.get("flip"), "alternate", False)


def arguments(on: Mapping[str, Operation], pieces: bool) -> list[str]:
    """Return the parameters of `augment`."""
    turns = ["index: Tensor", "epoch: int"] if alternates(on) else []
    mixed = ["targets: Tensor"] if mixes(on) else []
    rows = ["rows: Tensor", "size: int"] if pieces else []
    last = ["step: int", "prepare: Callable[[Tensor], Tensor]"]
    return ["images: Tensor", *mixed, *turns, *rows, *last]


def augment_text(on: Mapping[str, Operation], pieces: bool, parts: Collector) -> str:
    """Return the text of `augment`.

    Args:
        on: the operations, by name.
        pieces: whether a batch comes in pieces, whose draws are rows of those of the batch.
        parts: takes the source of the operations.
    """
    for name, operation in on.items():
        draw = "turn" if name == "flip" and alternates(on) else "draw"
        parts.value(operation, (draw, "apply"))  # type: ignore[arg-type]
    parts.imports["Any"] = Import("Any", "typing", "Any")
    given, result = arguments(on, pieces), "tuple[Tensor, Tensor]" if mixes(on) else "Tensor"
    head = [f"def augment({', '.join(given)}) -> {result}:"]
    if len(head[0]) > WIDTH:
        head = ["def augment(", *(f"    {argument}," for argument in given), f") -> {result}:"]
    size, rows = ("size", "[rows]") if pieces else ("len(images)", "")
    what = "images and targets" if mixes(on) else "images"
    lines = [
        *head,
        f'    """Return uint8 {what} as the network gets them."""',
        "",
        "    def draws(operation: Any, name: str) -> Tensor:",
        '        stream = generator(SEED, f"augment/{name}", step)',
        f"        return operation.draw({size}, SHAPE, stream){rows}",
        "",
        *_applied(on, STORED),
    ]
    if not on.keys().isdisjoint(MAPPED + COLOURED):
        lines.append("    images = images.to(torch.float32, copy=True)")
    if not on.keys().isdisjoint(MAPPED):
        parts.add("pellucid.augment.geometry", "affine")
        drawn = [_drawn(on, name) if name in on else NOTHING[name] for name in MAPPED]
        lines += [
            "    images = affine(",
            "        images,",
            *(f"        {d}," for d in drawn),
            "    )",
        ]
    lines += [*_applied(on, COLOURED), "    images = prepare(images)", *_applied(on, HIDDEN)]
    if mixes(on):
        parts.add("pellucid.augment.mixing", "soft")
        parts.add("pellucid.augment.mixing", "partners")
        whole = "rows, size" if pieces else "torch.arange(len(images)), len(images)"
        lines.append(f"    targets, partner = soft(targets, len(CLASSES)), partners({whole})")
        for name in (name for name in MIXED if name in on):
            lines.append(f"    drawn = {_drawn(on, name)}")
            call = f"{_kind(on, name)}().apply(images, targets, drawn, partner)"
            lines.append(f"    images, targets = {call}")
    lines.append("    return images, targets" if mixes(on) else "    return images")
    return "\n".join(lines)


def _applied(on: Mapping[str, Operation], names: tuple[str, ...]) -> list[str]:
    return [
        f"    images = {_kind(on, name)}().apply(images, {_drawn(on, name)})"
        for name in names
        if name in on
    ]


def _drawn(on: Mapping[str, Operation], name: str) -> str:
    if name == "flip" and alternates(on):
        return "Flip().turn(index, epoch, SEED)"
    return f'draws({_kind(on, name)}(), "{name}")'


def _kind(on: Mapping[str, Operation], name: str) -> str:
    return type(on[name]).__name__
