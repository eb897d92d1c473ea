"""View `flip`: the smallest change of an image that makes the model give another answer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.inspection.border import Range
from pellucid.inspection.flip import Flip, smallest_flip
from pellucid.inspection.logits import softmax
from pellucid.inspection.painting import Square, smallest_square
from pellucid.inspection.trace import looking
from pellucid.seeds import generator
from pellucid.viewdata import DoesNotApply, ViewData, short
from pellucid.views.flip_proofs import flip_proofs
from pellucid.views.options import IMAGE, BadOption, Options, choose
from pellucid.views.picture import Picture, picture
from pellucid.views.subject import Subject

TAKES = (*IMAGE, "target")
RANDOM = 100
OVER = (1.02, 1.005, 1.001, 1.0001)
"""How far from the image the changed one that is shown lies, the border being at 1: the first of
these at which the model itself gives the other answer."""
ALONG = 41


def compute(subject: Subject, options: Options) -> ViewData:
    """Return a small change that flips the answer: to the class `target`, or to any other.

    Raises:
        BadOption: if the class does not exist, or is the answer already.
        DoesNotApply: if no change was found.
    """
    shown = picture(subject, options)
    model = subject.model
    with looking(model):
        exact = copy.deepcopy(model).double()
        for parameter in exact.parameters():
            parameter.requires_grad_(False)
        image = shown.x.double()
        with torch.no_grad():
            before = int(exact(image)[0].argmax())
        target = _target(subject, before, options)
        bounds = pixel_range(subject)

        def quick(x: Tensor) -> Tensor:  # float64 costs a convolution ten times as much
            logits: Tensor = model(x.float()).double()
            return logits

        found = smallest_flip(exact, image, target=target, within=bounds, quick=quick)
        if found is None:
            raise DoesNotApply(_nothing(subject, before, target))
        free = smallest_flip(exact, image, target=target, quick=quick)
        colour = _border(subject, shown)
        with torch.no_grad():
            square = smallest_square(model, shown.x, colour, target=target)
            return _report(subject, shown, exact, found, free, square, target, bounds, colour)


def pixel_range(subject: Subject) -> Range:
    """Return the values that pixels from 0 to 255 have when they are prepared."""
    mean, std = subject.preprocessing.mean, subject.preprocessing.std
    low = [(0 - m) / s for m, s in zip(mean, std, strict=True)]
    high = [(1 - m) / s for m, s in zip(mean, std, strict=True)]
    as_image = (1, len(mean), 1, 1)
    low_, high_ = (torch.tensor(v, dtype=torch.float64, device=subject.device).view(as_image)
                   for v in (low, high))  # fmt: skip
    return Range(low_, high_)


def _target(subject: Subject, before: int, options: Options) -> int | None:
    if options.target is None:
        return None
    target = list(subject.classes).index(choose("class", options.target, subject.classes))
    if target == before:
        raise BadOption(
            f"The model says {subject.classes[before]} already. Name another class, or none for "
            "the one that is nearest."
        )
    return target


def _nothing(subject: Subject, before: int, target: int | None) -> str:
    name = "any other class" if target is None else subject.classes[target]
    return (
        f"No change was found that turns {subject.classes[before]} into {name}: the gradient is 0, "
        "or leads nowhere within what pixels can be."
    )


def _border(subject: Subject, shown: Picture) -> Tensor:
    """Return the usual colour at the border of the image, prepared, (C,)."""
    pixels = shown.pixels[0]
    edge = torch.cat([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], 1)
    middle = edge.median(1).values
    return subject.prepare(middle.view(1, -1, 1, 1))[0, :, 0, 0]


def _report(
    subject: Subject, shown: Picture, exact: nn.Module, found: Flip, free: Flip | None,
    square: Square | None, target: int | None, bounds: Range, colour: Tensor,
) -> ViewData:  # fmt: skip
    image, change = shown.x.double(), found.changed - shown.x.double()
    over, changed, said = _beyond(subject, image, change, found, bounds)
    pixels = (255 * subject.preprocessing.undo(changed.float())).round().to(torch.uint8)
    stored = int(subject.model(subject.prepare(pixels.cpu()))[0].argmax())
    scale = 255 * torch.tensor(subject.preprocessing.std, dtype=torch.float64).view(-1, 1, 1)
    grey = change[0].cpu() * scale
    along = torch.linspace(0, 2, ALONG, dtype=torch.float64, device=image.device)
    way = subject.model(torch.cat([bounds.clamp(image + t * change) for t in along]).float())
    way = way.double()
    a, b = subject.classes[found.before], subject.classes[found.after]
    numbers: dict[str, Any] = {
        "image": shown.pixels[0], "changed": pixels[0], "change": grey,
        "distance": found.distance, "over": over,
        "distance_free": free.distance if free else None, "before": a, "after": b,
        "asked": None if target is None else subject.classes[target],
        "rms_grey": float((grey**2).mean().sqrt()), "max_grey": float(grey.abs().max()),
        "norm": float((image - image.mean((2, 3), keepdim=True)).norm()),
        "aligned": found.aligned, "stored": subject.classes[stored],
        "random": _random(subject, shown.x, found, bounds), "tried": RANDOM,
        "classes": list(subject.classes), "order": _order(way[0], found),
        "p_before": softmax(way[0]), "p_after": softmax(said),
        "along": along, "logits_before": way[:, found.before], "logits_after": way[:, found.after],
        "square": _square(subject, shown, square, colour),
    }  # fmt: skip
    return ViewData(
        "flip", f"Smallest change found that turns {shown.name} from {a} to {b}",
        numbers, flip_proofs(subject, shown, exact, found, said, changed, bounds, target),
        ("what", "value"), _rows(numbers), _notes(numbers),
        subject.provenance(image=shown.name, target=numbers["asked"]),
    )  # fmt: skip


def _beyond(
    subject: Subject, image: Tensor, change: Tensor, found: Flip, bounds: Range
) -> tuple[float, Tensor, Tensor]:
    """Return how far beyond the border an image is shown, that image, and its logits."""
    for over in OVER:
        changed = bounds.clamp(image + over * change)
        said: Tensor = subject.model(changed.float())[0].double()
        if int(said.argmax()) == found.after:
            break
    return over, changed, said


def _random(subject: Subject, x: Tensor, found: Flip, bounds: Range) -> int:
    """Return how many random changes of the same length give another answer as well."""
    draws = torch.randn(RANDOM, *x.shape[1:], generator=generator(0, "flip"), dtype=torch.float64)
    draws = draws / draws.flatten(1).norm(dim=1).view(-1, 1, 1, 1) * found.distance
    images = bounds.clamp(x.double() + draws.to(x.device)).float()
    return int((subject.model(images).argmax(1) != found.before).sum())


def _order(logits: Tensor, found: Flip) -> list[int]:
    """Return the classes that are shown: both answers first, then the next by logit."""
    rest: list[int] = logits.argsort(descending=True, stable=True).tolist()
    first = [found.before, found.after]
    return [*first, *(c for c in rest if c not in first)][:8]


def _square(
    subject: Subject, shown: Picture, square: Square | None, colour: Tensor
) -> dict[str, Any] | None:
    if square is None:
        return None
    top, left, size = square.top, square.left, square.size
    painted = shown.x.clone()
    painted[0, :, top : top + size, left : left + size] = colour[:, None, None]
    pixels = (255 * subject.preprocessing.undo(painted)).round().to(torch.uint8)[0]
    return {"top": top, "left": left, "size": size, "after": subject.classes[square.after],
            "tried": square.tried, "pixels": pixels}  # fmt: skip


def _rows(n: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    square = n["square"]
    return (
        ("answer", f"{n['before']} -> {n['after']}"),
        ("distance (L2, in the network's space)", short(n["distance"])),
        ("distance, if values beyond pixels were allowed",
         "-" if n["distance_free"] is None else short(n["distance_free"])),
        ("distance / contrast of the image",
         f"{100 * n['distance'] / max(n['norm'], 1e-12):.1f} %"),
        ("change of a pixel, root mean square", f"{n['rms_grey']:.2f} of 255"),
        ("change of a pixel, largest", f"{n['max_grey']:.1f} of 255"),
        ("random changes of this length that flip", f"{n['random']} of {n['tried']}"),
        ("answer after rounding to whole grey values", n["stored"]),
        ("cosine of change and gradient at the border", f"{n['aligned']:.3f}"),
        ("smallest square that flips when painted over",
         "none" if square is None else
         f"{square['size']}x{square['size']} at row {square['top']}, column {square['left']}: "
         f"{square['after']}"),
    )  # fmt: skip


def _notes(n: dict[str, Any]) -> tuple[str, ...]:
    search = (
        "no small turn of it would bring it nearer" if n["aligned"] > 0.99
        else "a search with more steps may find a nearer one"
    )  # fmt: skip
    notes = [
        "The border is where both answers are equal; the changed image that is shown lies "
        f"{100 * (n['over'] - 1):.3g} % beyond it.",
        "A small change, not surely the smallest: the search looks for the nearest border by the "
        f"gradient. Cosine {n['aligned']:.3f} with the gradient at the border: {search}.",
        f"Of {n['tried']} random changes of the same length {n['random']} flip the answer: what "
        "counts is the direction, not the size.",
        "Such a change shows where this model's border lies. It is no sign of what people see.",
    ]
    if n["stored"] == n["before"]:
        notes.append("Rounded to whole grey values, as a file holds them, the change is lost: the "
                     "answer is the old one.")  # fmt: skip
    if n["square"] is None:
        notes.append("No square up to half of the image flips the answer when it is painted with "
                     "the colour of the border.")  # fmt: skip
    return tuple(notes)
