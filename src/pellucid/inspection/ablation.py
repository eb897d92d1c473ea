"""What each unit of a layer is worth: take it away, and judge the model again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.sites import Site
from pellucid.inspection.trace import Op, Tracer, looking

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Ablation:
    """Right answers with and without each unit.

    Args:
        baseline: right answers of each class, int64 (classes,), of the model as it is.
        nothing: the same, with every unit replaced by itself: equal.
        zero: with one unit at 0, int64 (units, classes).
        mean: with one unit at its mean over images and places.
        n: images of each class.
    """

    baseline: Tensor
    nothing: Tensor
    zero: Tensor
    mean: Tensor
    n: Tensor


def ablation(
    model: nn.Module, batches: Sequence[Batch], site: Site, classes: int,
    units: Sequence[int] | None = None,
) -> Ablation:  # fmt: skip
    """Return the right answers of `model` with each unit of `site` taken away, one by one.

    Two passes over the images for each unit.

    Args:
        model: any.
        batches: prepared images (B, C, H, W) and labels (B,).
        site: where the units are.
        classes: how many.
        units: which; all if not given.
    """
    units = range(site.shape[0]) if units is None else units

    def right(change: Callable[[Tensor], Tensor] | None) -> Tensor:
        found = torch.zeros(classes, dtype=torch.int64)
        for images, labels in batches:
            said = _changed(model, images, site.op, change).argmax(1).cpu()
            found += torch.bincount(labels[said == labels], minlength=classes)
        return found

    with looking(model), torch.no_grad():
        middle = _means(model, batches, site)
        baseline, nothing = right(None), right(lambda out: out.clone())
        zero = torch.stack([right(_to(unit, 0.0)) for unit in units])
        mean = torch.stack([right(_to(unit, float(middle[unit]))) for unit in units])
    labels = torch.cat([labels for _, labels in batches])
    return Ablation(baseline, nothing, zero, mean, torch.bincount(labels, minlength=classes))


def _to(unit: int, value: float) -> Callable[[Tensor], Tensor]:
    def change(out: Tensor) -> Tensor:
        other = out.clone()
        other[:, unit] = value
        return other

    return change


def _changed(
    model: nn.Module, images: Tensor, op: int, change: Callable[[Tensor], Tensor] | None
) -> Tensor:
    if change is None:
        plain: Tensor = model(images)
        return plain

    def seen(one: Op) -> Tensor | None:
        return change(one.out) if one.index == op else None

    with Tracer(model, images, seen):
        logits: Tensor = model(images)
    return logits


def _means(model: nn.Module, batches: Sequence[Batch], site: Site) -> Tensor:
    total, count = torch.zeros(site.shape[0], dtype=torch.float64), 0

    def seen(one: Op) -> None:
        nonlocal total, count
        if one.index == site.op:
            rows = one.out.transpose(0, 1).flatten(1)
            total = total + rows.sum(1, dtype=torch.float64).cpu()
            count += rows.shape[1]

    for images, _ in batches:
        with Tracer(model, images, seen):
            model(images)
    return total / max(1, count)
