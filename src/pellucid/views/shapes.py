"""View `shapes`: what each layer does to the shape, and what it costs."""

from __future__ import annotations

import torch

from pellucid.inspection.receptive import Field
from pellucid.inspection.shapes import Row, Shapes, jump_of, shapes
from pellucid.viewdata import Proof, ViewData
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject

TAKES = ("size",)


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the shape, formula, parameters, MACs, receptive field and kept bytes of each layer.

    Raises:
        BadOption: if the size is no size of an image.
    """
    channels, height, width = subject.shape
    if options.size:
        height, width = options.size
        if min(options.size) < 1:
            raise BadOption(f"--size must be two numbers from 1 on. Got {height}x{width}.")
    image = torch.zeros(1, channels, height, width, device=subject.device)
    found = shapes(subject.model, image)
    counted = sum(row.parameters for row in found.rows) + sum(n for _, n in found.unused)
    wrong = [row.name for row in found.rows if row.wrong]
    proofs = (
        Proof("layers whose shape is not the one of its formula", len(wrong), 0),
        Proof("parameters by layer - parameters of the model", abs(counted - found.parameters), 0),
    )
    model = type(subject.model).__name__
    title = f"{model}: shape and cost of each layer, for one image of {channels}x{height}x{width}"
    return ViewData(
        "shapes", title, _numbers(found), proofs,
        ("layer", "operation", "in", "out", "parameters", "MACs", "sees", "step", "kept",
         "formula"),
        tuple(_line(row) for row in found.rows),
        _notes(found), subject.provenance(size=[channels, height, width]),
    )  # fmt: skip


def _numbers(found: Shapes) -> dict[str, object]:
    broken = found.broken
    return {
        "layers": [
            {
                "layer": row.name, "operation": row.call, "in": row.given, "out": row.out,
                "formula": row.formula, "predicted": row.predicted, "parameters": row.parameters,
                "macs": row.macs, "kept_bytes": row.kept,
                "receptive_field": row.seen.size if isinstance(row.seen, Field) else row.seen,
                "jump": row.seen.jump if isinstance(row.seen, Field) else None,
            }
            for row in found.rows
        ],
        "parameters": found.parameters,
        "macs": sum(row.macs for row in found.rows),
        "kept_bytes": sum(row.kept for row in found.rows),
        "unused": dict(found.unused),
        "broken": vars(broken) if broken else None,
    }  # fmt: skip


def _line(row: Row) -> tuple[str, ...]:
    size, jump = jump_of(row.seen)
    return (
        row.name, row.call, by(row.given), by(row.out), _count(row.parameters), _count(row.macs),
        size, jump, _count(row.kept), row.formula or "no formula",
    )  # fmt: skip


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _notes(found: Shapes) -> tuple[str, ...]:
    notes = [
        f"{found.parameters:,} parameters, {sum(row.macs for row in found.rows):,} multiplications "
        f"with addition and {sum(row.kept for row in found.rows):,} bytes kept for the backward "
        "pass of one image.",
        "sees: receptive field in pixels; step: pixels from one place of the map to the next; "
        "kept: bytes that autograd keeps for the backward pass.",
    ]
    if found.unused:
        names = ", ".join(name for name, _ in found.unused[:5])
        notes.append(f"The forward pass does not use: {names}.")
    if found.broken:
        b = found.broken
        advice = f" To fit: {b.advice}." if b.advice else ""
        notes.insert(0, f"It breaks at {b.name} ({b.call}): {b.reason}.{advice}")
    return tuple(notes)


def by(shape: tuple[int, ...]) -> str:
    """Return a shape as text: `32x14x14`."""
    return "x".join(map(str, shape)) or "1"
