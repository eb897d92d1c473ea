"""The filters of the first layer, measured: size, direction, structure, likeness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.calls import WEIGHTED
from pellucid.inspection.formulas import argument
from pellucid.inspection.trace import looking, trace
from pellucid.seeds import generator
from pellucid.viewdata import DoesNotApply

SHUFFLES = 999
LOW = 0.25
"""Cycles per pixel up to which a frequency counts as low: half of the highest one."""
ALIKE = 0.95
"""Absolute cosine from which two filters are near duplicates."""


@dataclass(frozen=True, eq=False)
class First:
    """The first layer with weights.

    Args:
        layer: its name.
        parameter: name of its weights.
        weights: (N, C, h, w), a view of the parameter.
        over_pixels: it is a linear layer, whose rows are pictures of the whole image.
    """

    layer: str
    parameter: str
    weights: Tensor
    over_pixels: bool

    def shaped(self, values: Tensor) -> Tensor:
        """Return other weights of the same layer as (N, C, h, w)."""
        return values.reshape(self.weights.shape).to(self.weights.device)


def first_filters(model: nn.Module, image: Tensor) -> First:
    """Return the filters of the first layer with weights, which live in pixel space.

    Args:
        model: any.
        image: (1, C, H, W).

    Raises:
        DoesNotApply: if it is neither a 2-d convolution nor a linear layer over the pixels.
    """
    with looking(model), torch.no_grad():
        ops = trace(model, image)
    op = next((op for op in ops if op.call in WEIGHTED), None)
    if op is None:
        raise DoesNotApply("This model has no layer with weights.")
    weight: Tensor = argument(op, 1, "weight", None)
    names = [name for name, p in model.named_parameters() if p is weight]
    if not names:
        raise DoesNotApply(f"The weights of the first layer, {op.name}, are computed anew each "
                           "time, not learned as they are.")  # fmt: skip
    if op.call == "conv2d":
        return First(op.name, names[0], weight.detach(), False)
    if op.call == "linear" and weight.shape[1] == image[0].numel():
        return First(op.name, names[0], weight.detach().reshape(-1, *image.shape[1:]), True)
    raise DoesNotApply(f"The first layer with weights, {op.name}, does not see an image.")


@dataclass(frozen=True, eq=False)
class Measures:
    """What filters are like; each tensor float64 (N,).

    Args:
        norm: L2 norm.
        total: sum of all weights: the answer to a constant image, DC.
        angle: direction in which edges or lines run, degrees from horizontal, counter-clockwise,
            in [0, 180); nan without any direction.
        anisotropy: 0 for no direction, 1 for one direction only.
        low: share of the power, mean removed, at low frequencies.
        p: of structure: the share of shuffles whose neighbours are at least as alike.
        parseval: relative difference of the power in space and in the spectrum.
    """

    norm: Tensor
    total: Tensor
    angle: Tensor
    anisotropy: Tensor
    low: Tensor
    p: Tensor
    parseval: Tensor


def measure_filters(weights: Tensor, shuffles: int = SHUFFLES) -> Measures:
    """Return the measures of filters (N, C, h, w).

    Direction and anisotropy come from the second-moment matrix of the power spectrum, with the
    mean of each channel removed: its larger eigenvector is the direction across the edges, the
    eigenvalues a >= b give the anisotropy (a - b) / (a + b).

    >>> bars = torch.tensor([[-1.0, 2, -1]]).expand(3, 3).reshape(1, 1, 3, 3)
    >>> found = measure_filters(bars)
    >>> round(float(found.angle[0])), float(found.total[0])
    (90, 0.0)
    """
    w = weights.detach().double()
    flat = w.flatten(1)
    power, parseval = _spectrum(w)
    fy, fx = _frequencies(power)
    total = power.sum((1, 2)).clamp_min(1e-300)
    yy = (power * fy * fy).sum((1, 2)) / total
    xx = (power * fx * fx).sum((1, 2)) / total
    xy = (power * fy * fx).sum((1, 2)) / total
    spread = torch.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    mean = (xx + yy) / 2
    across = 0.5 * torch.atan2(2 * xy, xx - yy)  # rows grow downwards
    angle = (90 - across.rad2deg()) % 180
    anisotropy = spread / mean.clamp_min(1e-300)
    angle = torch.where(anisotropy > 1e-9, angle, math.nan)
    low = (power * (fy**2 + fx**2 <= LOW**2)).sum((1, 2)) / total
    return Measures(
        flat.norm(dim=1), flat.sum(1), angle, anisotropy, low, structure(w, shuffles), parseval
    )


def _spectrum(w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the power spectrum (N, M, M), channels summed, mean removed; and Parseval's miss."""
    size = 4 * max(w.shape[2:]) + 1  # odd: as many frequencies below 0 as above
    centred = w - w.mean((2, 3), keepdim=True)
    power = torch.fft.fft2(centred, s=(size, size)).abs() ** 2
    power = power.sum(1)
    there, here = power.sum((1, 2)) / size**2, (centred**2).sum((1, 2, 3))
    return power, (there - here).abs() / here.clamp_min(1e-300)


def _frequencies(power: Tensor) -> tuple[Tensor, Tensor]:
    f = torch.fft.fftfreq(power.shape[-1], dtype=power.dtype, device=power.device)
    return f[:, None], f[None, :]


def permutations(count: int, length: int) -> Tensor:
    """Return `count` fixed shuffles of `length` places, int64 (count, length)."""
    draws = generator(0, "shuffle-filter", length)
    return torch.stack([torch.randperm(length, generator=draws) for _ in range(count)])


def structure(weights: Tensor, shuffles: int = SHUFFLES) -> Tensor:
    """Return the p-value of structure of each filter (N, C, h, w): are neighbours alike?

    The statistic is that of Moran (1950): the products of neighbours, up, down, left and right,
    with the mean removed. It is compared with those of the same weights at shuffled places (all
    channels alike), and p = (1 + number of shuffles at least as large) / (1 + shuffles): uniform
    where places do not matter. Where there is one place only, p is 1.
    """
    n, c, h, w = weights.shape
    centred = weights.double()
    centred = centred - centred.mean((2, 3), keepdim=True)
    flat = centred.flatten(2)
    here = _moran(centred)
    slack = 1e-9 * (centred**2).sum((1, 2, 3))  # equal weights give equal sums, but for rounding
    at_least = torch.zeros(n, dtype=torch.float64, device=weights.device)
    for order in permutations(shuffles, h * w):
        at_least += _moran(flat[:, :, order].reshape(n, c, h, w)) >= here - slack
    return (1 + at_least) / (1 + shuffles)


def _moran(centred: Tensor) -> Tensor:
    down = (centred[:, :, 1:] * centred[:, :, :-1]).sum((1, 2, 3))
    right = (centred[:, :, :, 1:] * centred[:, :, :, :-1]).sum((1, 2, 3))
    return down + right


def shuffled(weights: Tensor) -> Tensor:
    """Return filters (N, C, h, w) with the weights of each at other places, by a fixed draw."""
    n, c, h, w = weights.shape
    order = torch.stack(
        [torch.randperm(h * w, generator=generator(0, "shuffle-weights", i)) for i in range(n)]
    ).to(weights.device)
    flat = weights.flatten(2)
    return flat.gather(2, order[:, None].expand(n, c, h * w)).reshape(n, c, h, w)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Return the cosine of each filter with the one at the same place in `other`; nan for zeros."""
    a, b = one.double().flatten(1), other.double().flatten(1)
    found: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return found


def near_duplicates(weights: Tensor) -> list[tuple[int, int, float]]:
    """Return pairs of filters whose absolute cosine is above `ALIKE`, with that cosine."""
    flat = nn.functional.normalize(weights.double().flatten(1), dim=1)
    matrix = flat @ flat.T
    pairs = torch.triu(matrix.abs() > ALIKE, diagonal=1).nonzero().tolist()
    return [(i, j, float(matrix[i, j])) for i, j in pairs]
