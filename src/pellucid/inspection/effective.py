"""Which pixels a value in a map really leans on: the effective receptive field.

The energy of the gradient of the value by the pixels, averaged over images (Luo et al., 2016). By
the chain rule it is exactly 0 outside the receptive field that the formula gives.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pellucid.inspection.trace import Op, Tracer, looking


def gradient_energy(
    model: nn.Module, batches: Iterable[Tensor], op: int, unit: int, place: tuple[int, int]
) -> Tensor:
    """Return the mean over images of the squared gradient of one value, (H, W).

    Args:
        model: any.
        batches: each (B, C, H, W), prepared.
        op: index of the operation whose output holds the value.
        unit: channel of that output.
        place: row and column in it.
    """
    total, count = torch.zeros(()), 0
    with looking(model):
        for images in batches:
            x = images.detach().clone().requires_grad_()
            kept: list[Tensor] = []

            def seen(one: Op, kept: list[Tensor] = kept) -> Tensor | None:
                if one.index != op:
                    return None
                kept.append(one.out)
                return one.out.clone()

            with torch.enable_grad(), Tracer(model, x, seen):
                model(x)
            value = kept[0][:, unit, place[0], place[1]].sum()
            slope = torch.autograd.grad(value, x)[0]
            total = total.to(slope.device) + (slope.double() ** 2).sum((0, 1))
            count += len(images)
    return total / max(1, count)
