"""How answers hold when images are changed, and whether maps move with what is in the image."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.activations import values_at
from pellucid.inspection.receptive import Field, fields
from pellucid.inspection.sites import Site, sites
from pellucid.inspection.trace import looking, trace

Change = Callable[[Tensor, float], Tensor]
"""From images, float (B, C, H, W) on the scale 0 to 255, and a strength to changed images."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What a network says of changed images, for each strength.

    Args:
        levels: the strengths, in order.
        right: right answers, int64 (levels,).
        sure: mean probability of the answer, float64 (levels,).
        truth: mean probability of the label.
        moved: largest difference of a logit from that of the image as it is.
    """

    levels: tuple[float, ...]
    right: Tensor
    sure: Tensor
    truth: Tensor
    moved: Tensor


def shift(images: Tensor, right: int, down: int) -> Tensor:
    """Return `images` moved by whole pixels, with 0 where nothing comes from.

    >>> shift(torch.tensor([[[[1, 2], [3, 4]]]]), 1, 0).tolist()
    [[[[0, 1], [0, 3]]]]
    """
    height, width = images.shape[2:]
    out = torch.zeros_like(images)
    y, x = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    source_y = slice(max(-down, 0), height + min(-down, 0))
    source_x = slice(max(-right, 0), width + min(-right, 0))
    out[:, :, y, x] = images[:, :, source_y, source_x]
    return out


def contrast(images: Tensor, factor: float) -> Tensor:
    """Return `images` with the distance of each pixel from its image's mean times `factor`.

    At 1 each image keeps its bits.
    """
    mean = images.mean((1, 2, 3), keepdim=True)
    return images * factor + mean * (1 - factor)


def rounded(images: Tensor) -> Tensor:
    """Return `images` as they would be stored: whole numbers from 0 to 255, uint8."""
    return images.round().clamp(0, 255).to(torch.uint8)


def curve(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], prepare: Callable[[Tensor], Tensor],
    change: Change, levels: Sequence[float],
) -> Curve:  # fmt: skip
    """Return what `model` says of images that are changed more and more.

    Args:
        model: any.
        batches: images as stored, uint8 (B, C, H, W), and labels (B,).
        prepare: from stored images to what the model takes.
        change: what is done to them.
        levels: how strongly, one after the other.
    """
    right = torch.zeros(len(levels), dtype=torch.int64)
    sure, truth = (torch.zeros(len(levels), dtype=torch.float64) for _ in range(2))
    moved = torch.zeros(len(levels), dtype=torch.float64)
    count = 0
    with looking(model), torch.no_grad():
        for pixels, labels in batches:
            plain = model(prepare(pixels))
            for at, level in enumerate(levels):
                logits: Tensor = model(prepare(rounded(change(pixels.float(), level))))
                moved[at] = max(float(moved[at]), float((logits - plain).abs().max()))
                p = logits.double().softmax(1).cpu()
                right[at] += int((p.argmax(1) == labels).sum())
                sure[at] += float(p.amax(1).sum())
                truth[at] += float(p.gather(1, labels[:, None]).sum())
            count += len(labels)
    return Curve(tuple(levels), right, sure / max(1, count), truth / max(1, count), moved)


@dataclass(frozen=True)
class Moved:
    """How the map of one layer moves when the image does.

    Args:
        layer: its name.
        jump: pixels that the image is moved by, to the right and down: one place of the map.
        places: places of the map that see neither edge before or after.
        miss: largest difference between the moved map and the map of the moved image there,
            relative to the largest value of the map.
    """

    layer: str
    jump: tuple[int, int]
    places: int
    miss: float


def equivariance(model: nn.Module, image: Tensor) -> tuple[list[Moved], list[str]]:
    """Return how each layer's map moves with the image; and the layers where that cannot be seen.

    In float64. A layer is left out if its places see a window of unknown size, or one so large
    that each place sees an edge.

    Args:
        model: any; it is left as it is.
        image: one, (1, C, H, W), prepared.
    """
    exact, x = copy.deepcopy(model).double(), image.double()
    with looking(exact), torch.no_grad():
        ops = trace(exact, x)
        seen = fields(ops)
        found, without = [], []
        for site in sites(ops):
            field = seen[site.op]
            inner = _inner(site, field, (x.shape[2], x.shape[3]))
            if not isinstance(field, Field) or inner is None:
                without.append(site.layer)
                continue
            found.append(_moved(exact, x, site, field, inner))
    return found, without


def _moved(
    model: nn.Module, x: Tensor, site: Site, field: Field, inner: tuple[slice, slice]
) -> Moved:
    down, right = field.jump
    before = values_at(model, x, [site])[0][site.op]
    after = values_at(model, shift(x, right, down), [site])[0][site.op]
    rows, columns = inner
    there = after[:, :, rows, columns]
    here = before[:, :, rows.start - 1 : rows.stop - 1, columns.start - 1 : columns.stop - 1]
    scale = float(before.abs().max()) or 1.0
    return Moved(site.layer, field.jump, there[0, 0].numel(),
                 float((there - here).abs().max()) / scale)  # fmt: skip


def _inner(site: Site, field: object, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return the rows and columns of a map that see no edge, neither now nor one place earlier."""
    if not isinstance(field, Field) or len(site.shape) != 3:
        return None
    found = []
    for axis in (0, 1):
        start, jump, reach = field.start[axis], field.jump[axis], field.size[axis]
        first = max(1, math.ceil(-start / jump) + 1)
        last = min(site.shape[1 + axis] - 1, (size[axis] - reach - start) // jump)
        if last < first:
            return None
        found.append(slice(first, last + 1))
    return found[0], found[1]
