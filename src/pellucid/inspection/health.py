"""Signals and gradients of a network at one moment: is anything lost, blown up, dead or stuck?

Values are seen after each layer's nonlinearity, gradients are those of the mean loss of a fixed
sample. Histograms have the same bins at each moment and for each layer, so that they can be laid
side by side.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.inspection.calls import RELUS
from pellucid.inspection.sites import Site
from pellucid.inspection.trace import Op, Tracer, looking
from pellucid.inspection.vitals_watch import SATURATED
from pellucid.seeds import generator
from pellucid.values import Loss

LEAST = 0.01
"""Values well below it share a bin around 0; far above it the bins grow in proportion."""
BINS = 61
REACH = 6.0
ENDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "tanh_": (-1.0, 1.0)}
"""The ends between which these nonlinearities are caught."""


@dataclass(frozen=True, eq=False)
class Signal:
    """The values after one layer, over a sample.

    Args:
        site: where.
        values: how many.
        mean: of them.
        std: of them.
        zeros: share that is 0.
        saturated: share near an end of a sigmoid or tanh; None for others.
        dead: units of a ReLU that are 0 everywhere; None for others.
        counts: int64 (BINS,), of the bins between `edges()`; what lies beyond is in the outer ones.
        least: smallest value.
        most: largest value.
    """

    site: Site
    values: int
    mean: float
    std: float
    zeros: float
    saturated: float | None
    dead: tuple[int, ...] | None
    counts: Tensor
    least: float
    most: float


@dataclass(frozen=True, eq=False)
class Pulse:
    """A network at one moment.

    Args:
        loss: mean over the sample.
        signals: of each site, in order.
        gradients: norm of the gradient of each layer's own parameters, by layer; nan if none.
        weights: norm of these parameters.
        total: norm of the gradient of all parameters.
    """

    loss: float
    signals: tuple[Signal, ...]
    gradients: Mapping[str, float]
    weights: Mapping[str, float]
    total: float


def scaled(values: Tensor) -> Tensor:
    """Return `values` on the scale of the bins: even near 0, logarithmic beyond.

    >>> scaled(torch.tensor([-0.99, 0.0, 99.99])).tolist()
    [-2.0, 0.0, 4.0]
    """
    return values.sign() * torch.log10(1 + values.abs() / LEAST)


def edges() -> Tensor:
    """Return the bounds of the bins, float64 (BINS + 1,), as values. The middle bin holds 0."""
    at = torch.linspace(-REACH, REACH, BINS + 1, dtype=torch.float64)
    return at.sign() * LEAST * (10 ** at.abs() - 1)


def histogram(values: Tensor) -> Tensor:
    """Return how many of `values` are in each bin, int64 (BINS,).

    >>> int(histogram(torch.tensor([0.0, 0.0, 1e9])).sum())
    3
    """
    exact = edges()[1:-1]
    inner = exact.to(values.dtype)  # the same bins, without a copy of the values in float64
    inner = torch.where(inner.double() > exact, inner.nextafter(inner - 1), inner)
    place = torch.bucketize(values.flatten(), inner.to(values.device), out_int32=True)
    return torch.bincount(place, minlength=BINS).cpu()


def allowed(signal: Signal) -> float:
    """Return how far the mean is outside of what the histogram allows, relative to the values.

    Each value lies between the bounds of its bin, so their mean lies between the means of these.
    """
    bounds = edges()
    low = bounds[:-1].clamp_min(signal.least)
    high = bounds[1:].clamp_max(signal.most)
    counts = signal.counts.double()
    under = float((counts * low).sum() / signal.values) - signal.mean
    over = signal.mean - float((counts * high).sum() / signal.values)
    return max(0.0, under, over) / max(abs(signal.least), abs(signal.most), 1e-30)


def pulse(
    model: nn.Module, images: Tensor, targets: Tensor, where: Sequence[Site],
    loss: Loss = F.cross_entropy,
) -> Pulse:  # fmt: skip
    """Return signals and gradients of `model` on a sample, in eval mode.

    Args:
        model: any; it is left as it is.
        images: prepared, (B, C, H, W).
        targets: int64 (B,).
        where: of `find_sites`.
        loss: (logits, targets) -> mean loss.
    """
    wanted = {site.op: site for site in where}
    found: list[Signal] = []

    def seen(op: Op) -> None:
        if op.index in wanted:
            found.append(_signal(wanted[op.index], op.out.detach()))

    with looking(model):
        with torch.enable_grad(), Tracer(model, images, seen):
            logits: Tensor = model(images)
        with torch.enable_grad():
            objective = loss(logits, targets)
        slopes = gradients(model, objective)
    layers = _layers(model)
    return Pulse(
        float(objective.detach()), tuple(found),
        {name: norm([slopes[p] for p in mine if p in slopes]) if any(p in slopes for p in mine)
         else math.nan for name, mine in layers.items()},
        {name: norm([p.detach() for p in mine.values()]) for name, mine in layers.items()},
        norm(list(slopes.values())),
    )  # fmt: skip


def moved(model: nn.Module, images: Tensor) -> float:
    """Return the largest difference that looking makes to the logits of `images`: 0."""

    def seen(op: Op) -> None:
        del op

    with looking(model), torch.no_grad():
        with Tracer(model, images, seen):
            logits: Tensor = model(images)
        return float((model(images) - logits).abs().max())


def gradients(model: nn.Module, objective: Tensor) -> dict[str, Tensor]:
    """Return the gradient of `objective` by each parameter that it depends on, by name."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained or not objective.requires_grad:
        return {}
    found = torch.autograd.grad(objective, list(trained.values()), allow_unused=True)
    return {name: g for name, g in zip(trained, found, strict=True) if g is not None}


def norm(tensors: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all numbers of `tensors` together."""
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def slope_miss(model: nn.Module, images: Tensor, targets: Tensor) -> float:
    """Return how far the norm of the gradient is from the slope measured along it, relative.

    In float64, of cross-entropy, by a central difference. It is taken a thousandth beside the
    weights as they are: a unit that a ReLU holds at exactly 0, as in blocks that start at 0, has
    no slope there.
    """
    exact = copy.deepcopy(model).double()
    draws = generator(0, "look")
    x = images.double()
    with torch.no_grad():
        for p in exact.parameters():
            size = float(p.square().mean().sqrt()) or 1.0
            away = torch.randn(p.shape, generator=draws, dtype=p.dtype).to(p.device)
            p.add_(away, alpha=1e-3 * size)
    with looking(exact):
        with torch.enable_grad():
            slopes = gradients(exact, F.cross_entropy(exact(x), targets))
        length = norm(list(slopes.values()))
        if length == 0:
            return 0.0
        step, losses = 1e-6, []
        with torch.no_grad():
            parameters = dict(exact.named_parameters())
            for side in (1, -2):
                for name, slope in slopes.items():
                    parameters[name].add_(slope, alpha=side * step / length)
                losses.append(float(F.cross_entropy(exact(x), targets)))
    return abs((losses[0] - losses[1]) / (2 * step) - length) / length


def _signal(site: Site, values: Tensor) -> Signal:
    count = values.numel()
    mean = float(values.sum(dtype=torch.float64)) / count
    square = float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2 / count
    least, most = values.aminmax()
    saturated = None
    if site.call in ENDS:
        low, high = ENDS[site.call]
        edge = SATURATED * (high - low)
        saturated = float(((values >= high - edge) | (values <= low + edge)).double().mean())
    dead = None
    capped = site.call in ("relu6", "hardtanh") and float(least) >= 0
    if site.call in RELUS or capped:
        units = values.transpose(0, 1).flatten(1)
        dead = tuple((units.amax(1) <= 0).nonzero().flatten().tolist())
    return Signal(
        site, count, mean, math.sqrt(max(0.0, square - mean**2)),
        1 - int(values.count_nonzero()) / count, saturated, dead, histogram(values),
        float(least), float(most),
    )  # fmt: skip


def _layers(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return the parameters of each layer that has a matrix or a kernel, by layer and name."""
    found = {}
    for layer, part in model.named_modules():
        before = f"{layer}." if layer else ""
        own = {before + name: p for name, p in part.named_parameters(recurse=False)}
        if any(p.dim() > 1 for p in own.values()):
            found[layer] = dict(own)
    return found
