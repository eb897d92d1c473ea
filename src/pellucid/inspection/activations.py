"""What units do over many images: how often they are above 0, and which are of no use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.calls import RELUS
from pellucid.inspection.sites import Site, sites
from pellucid.inspection.trace import Op, Tracer, looking, trace

ALIKE = 0.999
"""Correlation from which two units count as duplicates."""


@dataclass(frozen=True, eq=False)
class Audit:
    """The units of one site over many images.

    Args:
        site: where.
        places: values of each unit that were looked at, N * H * W.
        positive: values above 0, int64 (units,).
        zero: values that are 0.
        negative: values below 0.
        maximum: the largest value (units,).
        twins: pairs of units whose values are correlated above `ALIKE`; dead ones left out.
    """

    site: Site
    places: int
    positive: Tensor
    zero: Tensor
    negative: Tensor
    maximum: Tensor
    twins: tuple[tuple[int, int], ...]

    @property
    def rectified(self) -> bool:
        """Whether a ReLU is there, capped or not: only then can a unit be dead."""
        capped = self.site.call in ("relu6", "hardtanh") and not bool(self.negative.any())
        return self.site.call in RELUS or capped

    @property
    def dead(self) -> list[int]:
        """Units that were never above 0."""
        if not self.rectified:
            return []
        return (self.positive == 0).nonzero().flatten().tolist()

    @property
    def always_on(self) -> list[int]:
        """Units that were above 0 at every place of every image: there the ReLU does nothing."""
        if not self.rectified:
            return []
        return (self.positive == self.places).nonzero().flatten().tolist()


def find_sites(model: nn.Module, image: Tensor) -> list[Site]:
    """Return where the units of each layer of `model` can be seen, for one image (1, C, H, W)."""
    with looking(model), torch.no_grad():
        return sites(trace(model, image))


def values_at(
    model: nn.Module, images: Tensor, where: Sequence[Site]
) -> tuple[dict[int, Tensor], Tensor]:
    """Return the values at `where`, by operation, for a batch of images; and the logits.

    To be called within `looking`.
    """
    wanted = {site.op for site in where}
    found: dict[int, Tensor] = {}

    def seen(op: Op) -> None:
        if op.index in wanted:
            found[op.index] = op.out.detach().clone()

    with Tracer(model, images, seen):
        logits: Tensor = model(images)
    return found, logits


def audit(
    model: nn.Module, batches: Iterable[Tensor], where: Sequence[Site]
) -> tuple[list[Audit], float]:
    """Return what the units at `where` do over all `batches`, and how looking moved the logits.

    Args:
        model: any.
        batches: each (B, C, H, W), prepared.
        where: of `find_sites`.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    >>> _ = net[0].bias.data.copy_(torch.tensor([1e6, -1e6]))
    >>> x = torch.randn(5, 1, 2, 2)
    >>> found, moved = audit(net, [x], find_sites(net, x[:1]))
    >>> found[0].dead, found[0].always_on, found[0].places, moved
    ([1], [0], 20, 0.0)
    """
    sums = [_Sums(site) for site in where]
    moved = 0.0
    with looking(model), torch.no_grad():
        for images in batches:
            found, logits = values_at(model, images, where)
            moved = max(moved, float((model(images) - logits).abs().max()))
            for one in sums:
                one.add(_rows(found[one.site.op]))
    return [one.audit() for one in sums], moved


def _rows(values: Tensor) -> Tensor:
    """Return values (B, U) or (B, U, H, W) as rows (places, U)."""
    return values if values.dim() == 2 else values.permute(0, 2, 3, 1).flatten(0, 2)


class _Sums:
    """Adds up what an audit needs, batch by batch."""

    def __init__(self, site: Site) -> None:
        units = site.shape[0]
        self.site = site
        self.places = 0
        self.positive = torch.zeros(units, dtype=torch.int64)
        self.zero, self.negative = self.positive.clone(), self.positive.clone()
        self.maximum = torch.full((units,), -torch.inf)
        self.total = torch.zeros(units, dtype=torch.float64)
        self.products = torch.zeros(units, units, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        self.places += len(rows)
        self.positive += (rows > 0).sum(0).cpu()
        self.zero += (rows == 0).sum(0).cpu()
        self.negative += (rows < 0).sum(0).cpu()
        self.maximum = torch.maximum(self.maximum, rows.amax(0).float().cpu())
        self.total += rows.sum(0, dtype=torch.float64).cpu()
        self.products += (rows.T @ rows).double().cpu()

    def audit(self) -> Audit:
        mean = self.total / self.places
        covariance = self.products / self.places - mean[:, None] * mean[None, :]
        spread = covariance.diagonal().clamp_min(0).sqrt()
        moves = spread > 1e-6 * self.maximum.abs().double().clamp_min(1e-12)
        correlation = covariance / (spread[:, None] * spread[None, :]).clamp_min(1e-300)
        alike = (correlation > ALIKE) & moves[:, None] & moves[None, :]
        pairs = torch.triu(alike, diagonal=1).nonzero().tolist()
        return Audit(
            self.site, self.places, self.positive, self.zero, self.negative, self.maximum,
            tuple((i, j) for i, j in pairs),
        )  # fmt: skip
