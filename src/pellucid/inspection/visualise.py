"""What excites a unit most of all pictures: gradient ascent on the pixels (Erhan et al., 2009).

The picture stays as faint as real ones are (a ball around the mean colour) and within what pixels
can be. Smoothed gradients and small shifts (Olah et al., 2017) make it less of a noise that only
this model sees, at the price of a lower value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.inspection.patches import Spot
from pellucid.inspection.trace import Op, Tracer, looking
from pellucid.seeds import generator

STEPS = 96
FLAT = 0.05
"""Share of a picture's power that is no single colour; below it the picture counts as flat."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """Which values are to be as large as can be; one picture for each.

    Args:
        op: index of the operation whose output holds them.
        units: channels or features of that output.
        place: row and column; None where the output has no places.
        mask: which pixels count, bool (H, W).
        radius: largest L2 norm of each picture, in prepared values, where 0 is the mean colour.
        low: smallest value that a pixel can have, (C,); None for any.
        high: largest.
    """

    op: int
    units: Sequence[int]
    place: tuple[int, int] | None
    mask: Tensor
    radius: Tensor
    low: Tensor | None = None
    high: Tensor | None = None

    def allowed(self, x: Tensor) -> Tensor:
        """Return pictures (U, C, H, W) cut to what is allowed: pixels that count, range, norm.

        A picture that is too strong is drawn towards the mean colour, which keeps it in the range.
        """
        if self.low is not None and self.high is not None:
            low, high = (v.view(1, -1, 1, 1) for v in (self.low, self.high))
            x = torch.minimum(torch.maximum(x, low), high)
        x = x * self.mask
        size = x.flatten(1).norm(dim=1)
        cut: Tensor = x * (self.radius / size.clamp_min(1e-12)).clamp_max(1).view(-1, 1, 1, 1)
        return cut


@dataclass(frozen=True, eq=False)
class Ascent:
    """What an ascent found.

    Args:
        pictures: the best ones (U, C, H, W), prepared.
        values: of the units, for these.
        course: the best value so far after each step (steps + 1, U).
    """

    pictures: Tensor
    values: Tensor
    course: Tensor


def middle(spot: Spot, shape: tuple[int, int]) -> tuple[tuple[int, int] | None, Tensor]:
    """Return the place in the middle of the map, and the pixels that it sees, bool (H, W)."""
    mask = torch.zeros(shape, dtype=torch.bool)
    if len(spot.site.shape) == 1:
        return None, ~mask
    height, width = spot.site.shape[1:]
    at = height // 2 * width + width // 2
    top, left, bottom, right = spot.box(at, shape)
    mask[top:bottom, left:right] = True
    return spot.place(at), mask


def values_of(model: nn.Module, x: Tensor, wanted: Wanted) -> Tensor:
    """Return the value of each wanted unit for its picture, (U,); to be called within `looking`."""
    kept: list[Tensor] = []

    def seen(one: Op) -> Tensor | None:
        if one.index != wanted.op:
            return None
        kept.append(one.out)
        return one.out.clone()  # which a later operation may change in place

    with Tracer(model, x, seen):
        model(x)
    rows, units = torch.arange(len(x)), torch.tensor(wanted.units)
    if wanted.place is None:
        return kept[0][rows, units]
    return kept[0][rows, units, wanted.place[0], wanted.place[1]]


def ascend(
    model: nn.Module, wanted: Wanted, channels: int, *, smooth: bool, steps: int = STEPS,
    seed: int = 0,
) -> Ascent:  # fmt: skip
    """Return pictures that excite units as much as gradient ascent can.

    Args:
        model: any.
        wanted: which units, and what a picture may be.
        channels: of the pictures.
        smooth: smooth the gradient and shift the picture at random by up to one pixel.
        steps: of the ascent; each a share of the radius, less and less.
        seed: the same one gives the same pictures.
    """
    draws = generator(seed, "ascend")
    shape = (len(wanted.units), channels, *wanted.mask.shape)
    device = wanted.radius.device
    x = torch.randn(shape, generator=draws).to(device) * wanted.mask
    x = 0.1 * x * (wanted.radius / x.flatten(1).norm(dim=1).clamp_min(1e-12)).view(-1, 1, 1, 1)
    x = wanted.allowed(x)
    with looking(model):
        best, values = x, values_of(model, x, wanted).detach()
        course = [values]
        for step in range(steps):
            shift = torch.randint(-1, 2, (2,), generator=draws).tolist() if smooth else [0, 0]
            at = x.detach().roll(shift, (2, 3)).requires_grad_()
            with torch.enable_grad():
                total = values_of(model, at, wanted).sum()
            slope = torch.autograd.grad(total, at)[0].roll([-s for s in shift], (2, 3))
            slope = (_blurred(slope) if smooth else slope) * wanted.mask
            size = slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            length = wanted.radius.view(-1, 1, 1, 1) * 0.5 * (1 - step / steps)
            x = wanted.allowed(x + length * slope / size.clamp_min(1e-12) * (size > 0))
            with torch.no_grad():
                now = values_of(model, x, wanted)
            better = now > values
            best = torch.where(better.view(-1, 1, 1, 1), x, best)
            values = torch.where(better, now, values)
            course.append(values)
    return Ascent(best.detach(), values, torch.stack(course))


def _blurred(x: Tensor) -> Tensor:
    """Return `x` smoothed by (1, 2, 1) / 4, both ways."""
    line = torch.tensor([0.25, 0.5, 0.25], device=x.device, dtype=x.dtype)
    kernel = (line[:, None] * line[None, :]).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def noise(model: nn.Module, wanted: Wanted, channels: int, count: int) -> Tensor:
    """Return the values of the units for random pictures that are as strong, (count, U)."""
    draws = generator(0, "noise-pictures")
    found = []
    with looking(model), torch.no_grad():
        for _ in range(count):
            shape = (len(wanted.units), channels, *wanted.mask.shape)
            x = torch.randn(shape, generator=draws).to(wanted.radius.device) * wanted.mask
            size = x.flatten(1).norm(dim=1).clamp_min(1e-12)
            x = wanted.allowed(x * (wanted.radius / size).view(-1, 1, 1, 1))
            found.append(values_of(model, x, wanted))
    return torch.stack(found)


def flat(picture: Tensor, mask: Tensor) -> bool:
    """Return whether a picture (C, H, W) is nearly of one colour where it counts.

    >>> flat(torch.ones(1, 4, 4), torch.ones(4, 4, dtype=torch.bool))
    True
    """
    inside = picture[:, mask].double()
    power = float((inside**2).sum())
    apart = float(((inside - inside.mean(1, keepdim=True)) ** 2).sum())
    return power == 0 or apart / power < FLAT
