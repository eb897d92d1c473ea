"""View `robustness`: how answers hold when images are shifted, turned, noisy, or flat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pellucid.augment.geometry import affine
from pellucid.inspection.robustness import (
    Change,
    Curve,
    Moved,
    contrast,
    curve,
    equivariance,
    rounded,
    shift,
)
from pellucid.inspection.trace import looking
from pellucid.seeds import generator
from pellucid.viewdata import Proof, ViewData
from pellucid.views.options import Options, within
from pellucid.views.sample import Sample, sample
from pellucid.views.subject import Subject

TAKES = ("on", "index", "count")
MOST = 200
BATCH = 100
FILM = 7
"""Strengths of each change that are shown as pictures."""


class Kind(NamedTuple):
    """A way to change images.

    Args:
        name: for people.
        unit: of its strength.
        levels: the strengths; one of them changes nothing.
        nothing: that one.
        change: does it.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    nothing: float
    change: Change


def compute(subject: Subject, options: Options) -> ViewData:
    """Return accuracy and confidence against five changes of the images, and a film of one image.

    Raises:
        BadOption: if there is no such image.
    """
    many = sample(subject, Options(on=options.on, count=options.count), MOST)
    source = subject.part(options.on)
    at = within("image", options.index or 0, len(source), f"The part {source.name}")
    ways = kinds(subject.shape)
    found = {
        kind.name: curve(subject.model, _batches(many), subject.prepare, kind.change, kind.levels)
        for kind in ways
    }
    pixels = source.pixels(torch.tensor([at]))
    moved, without = equivariance(subject.model, subject.prepare(pixels))
    plain = _right(subject, many)
    n = len(many)
    numbers = {
        "n": n, "baseline": plain / n, "classes": list(subject.classes),
        "label": int(source.label(torch.tensor([at]))[0]), "image": pixels[0],
        "changes": {kind.name: _plain(kind, found[kind.name], n) for kind in ways},
        "film": {kind.name: _film(subject, kind, pixels) for kind in ways},
        "maps": [vars(one) for one in moved],
        "without": without,
    }  # fmt: skip
    return ViewData(
        "robustness",
        f"{100 * plain / n:.1f} % right of {many.text}; and when they are changed", numbers,
        _proofs(ways, found, plain, moved),
        ("change", "strength", "accuracy", "sure", "probability of the label"),
        tuple(row for kind in ways for row in _rows(kind, found[kind.name], n)),
        _notes(many, moved, without),
        subject.provenance(images=many.text, image=source.describe(at)),
    )  # fmt: skip


def kinds(shape: tuple[int, int, int]) -> tuple[Kind, ...]:
    """Return the changes for images of this shape; shifts are by whole pixels."""
    _, height, width = shape

    def steps(size: int) -> tuple[float, ...]:
        step = max(1, round(size / 28))
        return tuple(float(step * i) for i in range(-8, 9, 2))

    return (
        Kind("shift right", "pixels", steps(width), 0.0, lambda x, d: shift(x, int(d), 0)),
        Kind("shift down", "pixels", steps(height), 0.0, lambda x, d: shift(x, 0, int(d))),
        Kind("turn", "degrees, counter-clockwise", (-60.0, -45.0, -30.0, -15.0, 0.0, 15.0, 30.0,
             45.0, 60.0), 0.0, turn),
        Kind("noise", "standard deviation, share of white", (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6),
             0.0, noise),
        Kind("contrast", "factor", (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0), 1.0,
             contrast),
    )  # fmt: skip


def turn(images: Tensor, degrees: float) -> Tensor:
    """Return images turned about their centre, as the augmentation does, with 0 at the corners."""
    count = len(images)
    return affine(images.clone(), torch.full((count,), degrees), torch.zeros(count, 2),
                  torch.ones(count))  # fmt: skip


def noise(images: Tensor, strength: float) -> Tensor:
    """Return images with normal noise, the same draw at each strength and for each batch."""
    draws = torch.randn(images.shape, generator=generator(0, "noise"))
    return images + 255 * strength * draws


def _batches(many: Sample) -> Iterator[tuple[Tensor, Tensor]]:
    for index in torch.arange(len(many)).split(BATCH):
        yield many.data.pixels(index), many.data.label(index)


def _right(subject: Subject, many: Sample) -> int:
    """Return the right answers on the images as they are, counted by themselves."""
    with looking(subject.model), torch.no_grad():
        return sum(
            int((subject.model(x).argmax(1).cpu() == labels).sum())
            for x, labels in many.batches(BATCH)
        )


def _plain(kind: Kind, found: Curve, n: int) -> dict[str, Any]:
    return {
        "unit": kind.unit, "levels": list(kind.levels), "nothing": kind.nothing,
        "accuracy": found.right.double() / n, "sure": found.sure, "truth": found.truth,
    }  # fmt: skip


def _film(subject: Subject, kind: Kind, pixels: Tensor) -> list[dict[str, Any]]:
    """Return one image, changed more and more, and what is said of it."""
    shown = _spread(kind.levels)
    images = torch.cat([rounded(kind.change(pixels.float(), level)) for level in shown])
    with looking(subject.model), torch.no_grad():
        p = subject.model(subject.prepare(images)).double().softmax(1).cpu()
    return [
        {"level": level, "image": image, "said": int(row.argmax()), "sure": float(row.max())}
        for level, image, row in zip(shown, images, p, strict=True)
    ]


def _spread(levels: Sequence[float]) -> list[float]:
    if len(levels) <= FILM:
        return list(levels)
    return [levels[round(i * (len(levels) - 1) / (FILM - 1))] for i in range(FILM)]


def _proofs(
    ways: Sequence[Kind], found: dict[str, Curve], plain: int, moved: Sequence[Moved]
) -> tuple[Proof, ...]:
    still = [(found[kind.name], kind.levels.index(kind.nothing)) for kind in ways]
    proofs = [
        Proof("logits of images that a change leaves as they are - logits",
              max(float(one.moved[at]) for one, at in still), 0),
        Proof("right answers there - right answers",
              max(abs(int(one.right[at]) - plain) for one, at in still), 0),
    ]  # fmt: skip
    if moved:
        proofs.append(
            Proof(f"maps of the image moved by the stride - moved maps, inside, {len(moved)} "
                  f"layer{'s' * (len(moved) > 1)} (float64, relative)",
                  max(one.miss for one in moved), 1e-9)
        )  # fmt: skip
    return tuple(proofs)


def _rows(kind: Kind, found: Curve, n: int) -> list[tuple[str, ...]]:
    return [
        (kind.name, f"{level:g}", f"{100 * int(right) / n:.1f} %", f"{100 * float(sure):.1f} %",
         f"{100 * float(truth):.1f} %")
        for level, right, sure, truth in zip(
            kind.levels, found.right, found.sure, found.truth, strict=True
        )
    ]  # fmt: skip


def _notes(many: Sample, moved: Sequence[Moved], without: Sequence[str]) -> tuple[str, ...]:
    notes = [
        f"On {many.text}. Pixels are rounded to whole numbers after the change; where nothing "
        "comes from there is 0 (black). sure: mean probability of the answer, right or wrong: "
        "where it stays above the accuracy, the model does not notice.",
    ]
    if moved:
        deepest = moved[-1]
        notes.append(
            f"A layer's map moves with the image: tried on {len(moved)} layers, in {deepest.layer} "
            f"by one place for {deepest.jump[1]} pixels. That holds away from the edges, and only "
            "for whole strides; no answer is invariant because of it."
        )
    if without:
        notes.append(
            f"Not tried where each place sees an edge or the window is not known: "
            f"{', '.join(without[:4])}{' and more' if len(without) > 4 else ''}."
        )
    return tuple(notes)
