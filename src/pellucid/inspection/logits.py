"""From an image to its logits, term by term: exact sums, back through the layers that are linear.

The last layer is linear: `logit_c = b_c + sum_i W_ci h_i`. If the features h are the ReLU of
another linear layer, the mask of active units makes that one linear too for this image:
`W2 diag(m) W1`, with the biases carried along. So the walk goes back exactly, until it meets
something that is not linear on this path: maps after a pool, or the pixels themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.calls import RELUS
from pellucid.inspection.formulas import argument
from pellucid.inspection.trace import Op, looking, trace
from pellucid.viewdata import DoesNotApply

PASSING = frozenset(["dropout", "contiguous", "clone", "to", "float"])
FLAT = frozenset(["flatten", "view", "reshape", "squeeze"])


@dataclass(frozen=True, eq=False)
class Hop:
    """The logits as sums over the inputs of one layer.

    Args:
        layer: the layer whose inputs they are.
        maps: those inputs, float64 (C, H, W); H = W = 1 where they have no place.
        weights: float64 (K, C * H * W): what each input counts for each class, for this image.
        bias: float64 (K,).
    """

    layer: str
    maps: Tensor
    weights: Tensor
    bias: Tensor

    @property
    def contributions(self) -> Tensor:
        """Each input times its weight, float64 (K, C, H, W)."""
        flat = self.weights * self.maps.reshape(-1)
        return flat.reshape(-1, *self.maps.shape)

    def place(self, index: int) -> tuple[int, int, int]:
        """Return channel, row and column of the input at `index` of the flat features."""
        return unravel(index, self.maps.shape)


@dataclass(frozen=True, eq=False)
class Walk:
    """The way from an image to its logits.

    Args:
        logits: as the model gives them, float64 (K,).
        hops: at least one; the last layer first, then what lies before it.
    """

    logits: Tensor
    hops: tuple[Hop, ...]


def unravel(index: int, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return channel, row and column of a flat index: channels first, then rows, then columns.

    >>> unravel(53, (64, 7, 7))
    (1, 0, 4)
    """
    _, height, width = shape
    return index // (height * width), index // width % height, index % width


def logit_walk(model: nn.Module, image: Tensor) -> Walk:
    """Return the logits of `image` as sums over features, and over what they are made of.

    Args:
        model: ends in a linear layer.
        image: (1, C, H, W), prepared.

    Raises:
        DoesNotApply: if it does not end in a linear layer.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> [hop.maps.shape for hop in logit_walk(net, torch.ones(1, 1, 2, 2)).hops]
    [torch.Size([3, 1, 1]), torch.Size([1, 2, 2])]
    """
    with looking(model), torch.no_grad():
        ops = trace(model, image)
        last = ops[head(ops).index]
    hops = []
    weights, bias = _affine(last)
    op = last
    while True:
        maps, before = _inputs(ops, op, image)
        hops.append(Hop(op.name, maps, weights, bias))
        if before is None:
            return Walk(last.out[0].double(), tuple(hops))
        active, op = before
        mask = (active.out[0].double() > 0).double()
        inner, shift = _affine(op)
        bias = bias + weights @ (mask * shift)
        weights = (weights * mask) @ inner


def head(ops: Sequence[Op]) -> Op:
    """Return the linear layer that gives the logits.

    Raises:
        DoesNotApply: if the last operation is none.
    """
    last = ops[-1]
    if last.call != "linear" or last.out.dim() != 2:
        raise DoesNotApply(
            f"Logits are a sum over features only where the last layer is linear; this model "
            f"ends in {last.name} ({last.call.strip('_')})."
        )
    return last


def _affine(op: Op) -> tuple[Tensor, Tensor]:
    weight: Tensor = argument(op, 1, "weight", None)
    bias: Tensor | None = argument(op, 2, "bias", None)
    zeros = torch.zeros(weight.shape[0], dtype=torch.float64, device=weight.device)
    return weight.detach().double(), zeros if bias is None else bias.detach().double()


def _inputs(ops: Sequence[Op], op: Op, image: Tensor) -> tuple[Tensor, tuple[Op, Op] | None]:
    """Return the inputs of a linear layer as maps, and ReLU and linear layer before, if any."""
    at = _source(ops, op)
    value = op.args[0] if at is None else image if at < 0 else ops[at].out
    maps = value[0].double()
    if at is None or at < 0:
        return _as_maps(maps), None
    found = ops[at]
    if found.call in FLAT:
        source = _source(ops, found)
        flat = image if source == -1 else ops[source].out if source is not None else None
        if flat is not None and flat.dim() == 4 and flat[0].numel() == maps.numel():
            return flat[0].double(), None
    if found.call in RELUS:
        source = _source(ops, found)
        if source is not None and source >= 0 and ops[source].call == "linear":
            return _as_maps(maps), (found, ops[source])
    return _as_maps(maps), None


def _source(ops: Sequence[Op], op: Op) -> int | None:
    """Return which operation made the input of `op`; what changes nothing is skipped."""
    if not op.sources:
        return None
    at = op.sources[0]
    while at >= 0 and ops[at].call in PASSING and ops[at].sources:
        at = ops[at].sources[0]
    return at


def _as_maps(values: Tensor) -> Tensor:
    return values if values.dim() == 3 else values.reshape(-1, 1, 1)


def softmax(logits: Tensor) -> Tensor:
    """Return the shares of float64 logits (K,), by the log-sum-exp of what is left of the largest.

    >>> softmax(torch.tensor([1000.0, 1000.0]).double())
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    shifted = logits - logits.max()
    return (shifted - shifted.exp().sum().log()).exp()
