"""What kind of pattern a filter is, by how its power splits, and a test against chance.

A filter, channel by channel, is split into parts at right angles to each other: its mean; a ramp
(edge); a saddle, straight or diagonal (line); a bowl (spot or ring); and the rest. Their shares
of the power sum to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.inspection.filters import SHUFFLES, permutations
from pellucid.seeds import generator

KINDS = ("edge", "line", "spot", "blur")
LEVEL = 0.05
NAMES = ("horizontal", "diagonal /", "vertical", "diagonal \\")


@dataclass(frozen=True, eq=False)
class Kinds:
    """The kinds of N filters.

    Args:
        shares: of the power, float64 (N, 5): edge, line, spot, blur (the mean), rest.
        p: by chance, float64 (N, 4): of edge, line, spot, blur.
        kind: N texts: one of `KINDS`, or `none` where chance explains it as well.
        words: N texts: the kind with its direction or sign.
    """

    shares: Tensor
    p: Tensor
    kind: tuple[str, ...]
    words: tuple[str, ...]


def kinds(weights: Tensor, shuffles: int = SHUFFLES) -> Kinds:
    """Return what kind each filter (N, C, h, w) is.

    Edge, line and spot are tested against the same weights at shuffled places; blur, which a
    shuffle does not change, against the same weights with random signs. A kind counts if its p is
    below 0.05 / 4, as four are tried; so at most about one random filter in twenty gets one.

    >>> sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).reshape(1, 1, 3, 3)
    >>> kinds(torch.cat([sobel, torch.ones(1, 1, 3, 3)])).words
    ('vertical edge', 'blur')
    """
    w = weights.detach().double().flatten(2)
    basis, groups = _basis(*weights.shape[2:])
    basis = basis.to(w.device)
    total = (w**2).sum((1, 2)).clamp_min(1e-300)
    centred = w - w.mean(2, keepdim=True)
    parts = centred @ basis  # (N, C, 5)
    power = _grouped(parts, groups)
    mean = (w.mean(2) ** 2 * w.shape[2]).sum(1)
    rest = total - power.sum(1) - mean
    shares = torch.cat([power, mean[:, None], rest[:, None]], 1) / total[:, None]
    p = _by_shuffling(centred, power, basis, groups, shuffles)
    p = torch.cat([p, _by_signs(w, shuffles)[:, None]], 1)
    best = [_choose(chance, share) for chance, share in zip(p.tolist(), shares.tolist(),
                                                            strict=True)]  # fmt: skip
    words = tuple(_words(kind, parts[i], w[i]) for i, kind in enumerate(best))
    return Kinds(shares, p, tuple(best), words)


def parts_of(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the power of filters (N, C, h, w), and that of their parts added up: equal.

    The parts are the mean, the patterns, and what is left when both are taken away.
    """
    w = weights.detach().double().flatten(2)
    basis, groups = _basis(*weights.shape[2:])
    basis = basis.to(w.device)
    centred = w - w.mean(2, keepdim=True)
    parts = centred @ basis
    left = centred - parts @ basis.T
    mean = (w.mean(2) ** 2 * w.shape[2]).sum(1)
    return (w**2).sum((1, 2)), _grouped(parts, groups).sum(1) + mean + (left**2).sum((1, 2))


def _basis(height: int, width: int) -> tuple[Tensor, tuple[tuple[int, ...], ...]]:
    """Return unit patterns as columns (h * w, 5): ramps, saddles, bowl; and which form a kind.

    A pattern that a small filter cannot hold is 0.
    """
    y = torch.arange(height).double() - (height - 1) / 2
    x = torch.arange(width).double() - (width - 1) / 2
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    patterns = [xx, yy, xx**2 - yy**2, xx * yy, xx**2 + yy**2]
    columns: list[Tensor] = []
    for pattern in patterns:
        column = (pattern - pattern.mean()).flatten()
        for other in columns:  # only where height and width differ are they not at right angles
            column = column - (column @ other) * other
        norm = column.norm()
        columns.append(column / norm if norm > 1e-9 else torch.zeros_like(column))
    return torch.stack(columns, 1), ((0, 1), (2, 3), (4,))


def _grouped(parts: Tensor, groups: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return the power of each kind (N, 3), given the size of each pattern (N, C, 5)."""
    power = (parts**2).sum(1)
    return torch.stack([power[:, list(group)].sum(1) for group in groups], 1)


def _by_shuffling(
    centred: Tensor, power: Tensor, basis: Tensor, groups: tuple[tuple[int, ...], ...], count: int
) -> Tensor:
    at_least = torch.zeros_like(power)
    slack = 1e-9 * (centred**2).sum((1, 2))[:, None]
    for order in permutations(count, centred.shape[2]):
        # shuffling the patterns is shuffling the weights, and cheaper
        at_least += _grouped(centred @ basis[order.to(basis.device)], groups) >= power - slack
    return (1 + at_least) / (1 + count)


def _by_signs(w: Tensor, count: int) -> Tensor:
    """Return how often random signs give a sum as far from 0 as the filter's own."""
    flat = w.flatten(1)
    draws = generator(0, "filter-signs", flat.shape[1])
    here = flat.sum(1).abs()
    at_least = torch.zeros_like(here)
    slack = 1e-9 * flat.abs().sum(1)
    for _ in range(count):
        signs = torch.randint(0, 2, (flat.shape[1],), generator=draws).to(flat) * 2 - 1
        at_least += (flat @ signs).abs() >= here - slack
    return (1 + at_least) / (1 + count)


def _choose(chance: list[float], share: list[float]) -> str:
    """Return the kind that chance explains least; of equals, the one with more of the power.

    A line puts as much power into the bowl as into its saddle, a spot nothing into a saddle: so
    where both are there, it is a line.
    """
    sure = [i for i, p in enumerate(chance) if p < LEVEL / len(KINDS)]
    if not sure:
        return "none"
    best = KINDS[min(sure, key=lambda i: (chance[i], -share[i]))]
    line, spot = KINDS.index("line"), KINDS.index("spot")
    return "line" if best == "spot" and line in sure and share[line] > share[spot] / 2 else best


def _words(kind: str, parts: Tensor, w: Tensor) -> str:
    """Return a kind with its direction or sign; `parts` (C, 5) are summed over the channels."""
    total = parts.sum(0).tolist()
    if kind == "edge":  # it runs across the ramp
        return f"{_direction(math.atan2(-total[1], total[0]) + math.pi / 2)} edge"
    if kind == "line":  # it runs where the saddle is high
        return f"{_direction(math.atan2(-total[3], total[2]) / 2)} line"
    if kind == "spot":
        return "ring (dark centre)" if total[4] > 0 else "spot (bright centre)"
    return kind


def _direction(angle: float) -> str:
    return NAMES[round(math.degrees(angle) % 180 / 45) % 4]
