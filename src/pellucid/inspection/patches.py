"""The places in many images that excite each unit most, and the pixels that it sees there.

Of deep filters the weights are no pictures; the patches that excite them most are. They live in
pixel space, and each is a real one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.activations import values_at
from pellucid.inspection.calls import WEIGHTED
from pellucid.inspection.receptive import Field, fields
from pellucid.inspection.sites import Site, sites
from pellucid.inspection.trace import Op, looking, trace


@dataclass(frozen=True, eq=False)
class Spot:
    """Where the units of a layer are looked at, and what one place of them sees.

    Args:
        site: where.
        field: the receptive field of its places; None where a value depends on the whole image,
            or where no formula is known.
    """

    site: Site
    field: Field | None

    @property
    def width(self) -> int:
        """Places in a row of the map; 1 without a map."""
        return self.site.shape[2] if len(self.site.shape) == 3 else 1

    def place(self, at: int) -> tuple[int, int]:
        """Return row and column of a flat place."""
        return at // self.width, at % self.width

    def box(self, at: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the pixels that flat place `at` sees: top, left, bottom, right (excluded)."""
        if self.field is None:
            return 0, 0, *shape
        return self.field.box(self.place(at), shape)

    def window(self, at: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the same with what lies in the padding; the image where more is seen than that."""
        if self.field is None:
            return 0, 0, *shape
        low, high = [], []
        for axis, place in enumerate(self.place(at)):
            start = self.field.start[axis] + self.field.jump[axis] * place
            whole = self.field.size[axis] > shape[axis]
            low.append(0 if whole else start)
            high.append(shape[axis] if whole else start + self.field.size[axis])
        return low[0], low[1], high[0], high[1]


def spots(model: nn.Module, image: Tensor, *, before: bool = False) -> list[Spot]:
    """Return where the units of each layer can be seen, in order.

    Args:
        model: any.
        image: (1, C, H, W), prepared.
        before: look at what enters the nonlinearity, not at what leaves it: it has a slope even
            where a ReLU is at 0.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    >>> found = spots(net, torch.zeros(1, 1, 4, 4))
    >>> [(s.site.layer, s.site.call, s.field and s.field.size) for s in found]
    [('0', 'relu', (3, 3)), ('3', 'linear', None)]
    """
    with looking(model), torch.no_grad():
        ops = trace(model, image)
    seen = fields(ops)
    found = []
    for site in sites(ops):
        if _channels_last(ops, site):
            continue
        entering = ops[site.op].sources[:1]
        if before and site.call not in WEIGHTED and entering and entering[0] >= 0:
            site = Site(site.layer, entering[0], ops[entering[0]].call, site.shape)
        field = seen[site.op]
        known = isinstance(field, Field) and len(site.shape) == 3
        found.append(Spot(site, field if known and isinstance(field, Field) else None))
    return found


def _channels_last(ops: Sequence[Op], site: Site) -> bool:
    """Whether the units lie along the last axis of a map, as behind a linear layer over places."""
    layer = next(op for op in reversed(ops[: site.op + 1]) if op.call in WEIGHTED)
    return layer.call == "linear" and layer.out.dim() == 4


def middle_spot(known: Sequence[Spot], shape: tuple[int, int]) -> Spot:
    """Return the deepest layer of which a place sees at most half of the image, each way.

    Else the first one. So patches are larger than an edge and smaller than everything.
    """
    small = [
        spot for spot in known
        if spot.field and all(2 * s <= whole for s, whole in zip(spot.field.size, shape,
                                                                 strict=True))
    ]  # fmt: skip
    return small[-1] if small else known[0]


@dataclass(frozen=True, eq=False)
class Strongest:
    """The strongest places of each unit, the strongest first; each tensor (k, units).

    Args:
        values: of the unit.
        images: which image, by its number in the stream.
        places: flat places, row * width + column.
        maxima: the largest value of each unit in each image (N, units).
    """

    values: Tensor
    images: Tensor
    places: Tensor
    maxima: Tensor


def strongest(
    model: nn.Module, batches: Iterable[Tensor], site: Site, k: int, *, once: bool = True
) -> Strongest:
    """Return the `k` strongest places of each unit over all images; the earlier of equals.

    Args:
        model: any.
        batches: prepared images, each (B, C, H, W).
        site: where the units are.
        k: how many; fewer if there are fewer.
        once: at most one place of each image.

    >>> net = nn.Conv2d(1, 1, 1, bias=False)
    >>> _ = net.weight.data.fill_(1)
    >>> x = torch.tensor([[[[1.0, 5.0]]], [[[4.0, 0.0]]]])
    >>> site = spots(net, x[:1])[0].site
    >>> best = strongest(net, [x], site, 2)
    >>> best.values.flatten().tolist(), best.images.flatten().tolist()
    ([5.0, 4.0], [0, 1])
    >>> strongest(net, [x], site, 3, once=False).places.flatten().tolist()
    [1, 0, 0]
    """
    values, places = [], []
    with looking(model), torch.no_grad():
        for images in batches:
            flat = _flat(model, images, site)
            at = flat.argmax(2, keepdim=True) if once else (
                flat.argsort(dim=2, descending=True, stable=True)[:, :, :k]
            )  # fmt: skip
            values.append(flat.gather(2, at).cpu())
            places.append(at.cpu())
    every, where = torch.cat(values), torch.cat(places)  # (N, units, most)
    n, units, most = every.shape
    rows = every.permute(0, 2, 1).reshape(n * most, units)
    order = rows.sort(dim=0, descending=True, stable=True)
    best = order.indices[:k]
    chosen = where.permute(0, 2, 1).reshape(n * most, units).gather(0, best)
    return Strongest(order.values[:k], best // most, chosen, every[:, :, 0])


@dataclass(frozen=True)
class Again:
    """How far a second look is from the recorded one.

    Args:
        apart: largest difference of a value, with its image seen in another batch.
        left_out: images that were left out although a value in them is larger.
        outside: largest change of a value when all pixels that its place does not see are taken
            from another image; None where that is not known.
    """

    apart: float
    left_out: int
    outside: float | None


def look_again(
    model: nn.Module, batches: Iterable[Tensor], spot: Spot, best: Strongest, slack: float
) -> Again:
    """Return how far `best` is from what a second look finds.

    Args:
        model: any.
        batches: the same images, in batches of another size.
        spot: where the units are.
        best: what was recorded, with one place of each image.
        slack: by how much a value may be larger before its image counts as left out.
    """
    apart, left_out, start = 0.0, 0, 0
    kept: dict[int, Tensor] = {}
    with looking(model), torch.no_grad():
        for images in batches:
            flat = _flat(model, images, spot.site).cpu()
            for rank, unit in _listed(best, start, len(images)):
                image = int(best.images[rank, unit])
                value = float(flat[image - start, unit, best.places[rank, unit]])
                apart = max(apart, abs(value - float(best.values[rank, unit])))
                if rank == 0:
                    kept[unit] = images[image - start]
            left_out += _left_out(flat, start, best, slack)
            start += len(images)
        outside = _outside(model, spot, best, kept) if spot.field else None
    return Again(apart, left_out, outside)


def _listed(best: Strongest, start: int, count: int) -> list[tuple[int, int]]:
    """Return rank and unit of what was recorded of images `start` to `start + count`."""
    there = (best.images >= start) & (best.images < start + count)
    return [(rank, unit) for rank, unit in there.nonzero().tolist()]


def _left_out(flat: Tensor, start: int, best: Strongest, slack: float) -> int:
    larger = flat.amax(2) > best.values[-1] + slack  # (B, units)
    numbers = torch.arange(start, start + len(flat))
    listed = (best.images[:, None, :] == numbers[None, :, None]).any(0)
    return int((larger & ~listed).sum())


def _flat(model: nn.Module, images: Tensor, site: Site) -> Tensor:
    found, _ = values_at(model, images, [site])
    values = found[site.op]
    return values.flatten(2) if values.dim() == 4 else values[:, :, None]


def _outside(model: nn.Module, spot: Spot, best: Strongest, kept: dict[int, Tensor]) -> float:
    """Return how much values move when all that their places do not see is of another image."""
    units = sorted(kept)
    images = torch.stack([kept[unit] for unit in units])
    mixed = images.flip(3).roll(1, 0)
    shape = (images.shape[2], images.shape[3])
    for row, unit in enumerate(units):
        top, left, bottom, right = spot.box(int(best.places[0, unit]), shape)
        mixed[row, :, top:bottom, left:right] = images[row, :, top:bottom, left:right]
    moved = 0.0
    for part in torch.arange(len(units)).split(64):
        flat = _flat(model, mixed[part], spot.site).cpu()
        for row, at in enumerate(part.tolist()):
            unit = units[at]
            value = float(flat[row, unit, best.places[0, unit]])
            moved = max(moved, abs(value - float(best.values[0, unit])))
    return moved
