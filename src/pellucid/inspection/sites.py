"""Where the values of each layer's units can be seen in a forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.inspection.calls import ACTIVATIONS, WEIGHTED
from pellucid.inspection.trace import Op


@dataclass(frozen=True)
class Site:
    """Where the values of a layer's units can be seen: after its nonlinearity, if it has one.

    Args:
        layer: the layer with weights before it; a layer that is used again has `#2` and so on.
        op: the index of the operation whose output it is.
        call: that operation's function.
        shape: of the output for one image, (units, H, W) or (units,).
    """

    layer: str
    op: int
    call: str
    shape: tuple[int, ...]


def sites(ops: Sequence[Op]) -> list[Site]:
    """Return the site of each layer with weights in `ops`, in order.

    It is the first nonlinearity that follows before the next layer with weights; if there is
    none, the layer itself. Only outputs (B, units) and (B, units, H, W) count.

    >>> import torch
    >>> from torch import nn
    >>> from pellucid.inspection.trace import trace
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
    ...                     nn.Linear(2, 3))
    >>> [(s.layer, s.call, s.shape) for s in sites(trace(net, torch.zeros(1, 1, 4, 4)))]
    [('0', 'relu', (2, 1, 1)), ('4', 'linear', (3,))]
    """
    found: list[Site] = []
    times: dict[str, int] = {}
    for op in ops:
        if op.call not in WEIGHTED:
            continue
        times[op.name] = times.get(op.name, 0) + 1
        name = op.name if times[op.name] == 1 else f"{op.name}#{times[op.name]}"
        after = _activation(ops, op) or op
        if after.out.dim() in (2, 4):
            found.append(Site(name, after.index, after.call, tuple(after.out.shape[1:])))
    return found


def _activation(ops: Sequence[Op], layer: Op) -> Op | None:
    for op in ops[layer.index + 1 :]:
        if op.call in WEIGHTED:
            return None
        if op.call in ACTIVATIONS:
            return op
    return None
