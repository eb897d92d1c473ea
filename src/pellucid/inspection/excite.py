"""Which kernels an image excites most, by three scores.

By mean and by maximum, a filter with a large norm wins whatever the image. The z-score asks how
unusual the response is for this very filter: (mean response - its mean over training images) /
its standard deviation there. It does not change when a filter and its bias are scaled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.trace import Op, Tracer, looking


@dataclass(frozen=True, eq=False)
class Excitement:
    """How an image excites the filters of one layer; each tensor (K,).

    Args:
        mean: of the response, after ReLU, over all places.
        maximum: of the same.
        z: how unusual the mean is among training images, in standard deviations; 0 for a filter
            whose response never varies.
        usual: mean over training images of the mean response.
        spread: standard deviation of the same.
        all: mean response to each training image (N, K).
    """

    mean: Tensor
    maximum: Tensor
    z: Tensor
    usual: Tensor
    spread: Tensor
    all: Tensor

    @property
    def n(self) -> int:
        """Training images."""
        return len(self.all)

    def ranking(self) -> list[int]:
        """Return the filters, the most unusual response first."""
        order: list[int] = self.z.argsort(descending=True, stable=True).tolist()
        return order


def responses(model: nn.Module, images: Tensor, op: int) -> Tensor:
    """Return the mean ReLU response of each filter to each image, float64 (B, K).

    Args:
        model: any, within `looking`.
        images: prepared.
        op: index of the convolution among the operations.
    """
    found: list[Tensor] = []

    def seen(one: Op) -> None:
        if one.index == op:
            found.append(one.out.detach().clamp_min(0).mean((2, 3), dtype=torch.float64))

    with Tracer(model, images, seen):
        model(images)
    return found[0]


def excitement(model: nn.Module, maps: Tensor, op: int, batches: Iterable[Tensor]) -> Excitement:
    """Return how much the image whose maps these are excites each filter.

    Args:
        model: any.
        maps: of the convolution, before ReLU, (K, H, W).
        op: index of the convolution among the operations.
        batches: training images, prepared, each (B, C, H, W).
    """
    with looking(model), torch.no_grad():
        usual = torch.cat([responses(model, images, op) for images in batches])
    response = maps.double().clamp_min(0)
    mean = response.mean((1, 2))
    return score(mean, response.amax((1, 2)), usual)


def score(mean: Tensor, maximum: Tensor, usual: Tensor) -> Excitement:
    """Return the scores of responses (K,), given those to training images (N, K).

    >>> usual = torch.tensor([[1.0, 10.0], [3.0, 30.0]]).double()
    >>> score(torch.tensor([4.0, 20.0]), torch.tensor([9.0, 90.0]), usual).z.tolist()
    [2.0, 0.0]
    """
    centre, spread = usual.mean(0), usual.std(0, correction=0)
    varies = spread > 1e-12 * centre.abs().clamp_min(1e-300)
    z = torch.where(varies, (mean.double() - centre) / spread.clamp_min(1e-300), 0.0)
    return Excitement(mean, maximum, z, centre, spread, usual)
