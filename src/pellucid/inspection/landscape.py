"""The loss around a network, on planes through its weights; and along the way of a run.

Directions are normalised filter by filter (Li et al., 2018, "Visualizing the loss landscape of
neural nets"): each filter of a direction gets the norm of the filter of the weights that it is
added to, once; biases and the numbers of batch norm stay where they are. Without that the picture
would show how large the weights are: a ReLU network computes the same when one layer is made
larger and the next one smaller.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.inspection.calls import WEIGHTED
from pellucid.inspection.trace import Op, looking
from pellucid.seeds import generator
from pellucid.values import Loss

Weights = Mapping[str, Tensor]
"""Parameters by name, or a direction in their space."""

PASSING = frozenset(
    ("relu", "relu_", "leaky_relu", "max_pool2d", "_max_pool2d", "max_pool2d_with_indices",
     "avg_pool2d", "adaptive_avg_pool2d", "flatten", "view", "reshape", "mean", "dropout")
)  # fmt: skip
"""Operations that give c times as much for c times as much, c > 0."""


def raw_direction(model: nn.Module, which: int) -> dict[str, Tensor]:
    """Return normal draws for each parameter of `model`, always the same for `which`."""
    draws = generator(0, "landscape", which)
    return {
        name: torch.randn(p.shape, generator=draws, dtype=torch.float32).to(p)
        for name, p in model.named_parameters()
    }


def normalised(weights: Weights, raw: Weights) -> dict[str, Tensor]:
    """Return `raw` with each filter as long as that of `weights`; 0 for vectors such as biases.

    >>> w = {"w": torch.tensor([[3.0, 4.0]]), "b": torch.tensor([1.0])}
    >>> found = normalised(w, {"w": torch.tensor([[0.0, 2.0]]), "b": torch.tensor([7.0])})
    >>> found["w"].tolist(), found["b"].tolist()
    ([[0.0, 5.0]], [0.0])
    """
    found = {}
    for name, w in weights.items():
        if w.dim() < 2:
            found[name] = torch.zeros_like(w)
            continue
        size = _lengths(w) / _lengths(raw[name]).clamp_min(1e-30)
        found[name] = raw[name] * size.view(-1, *[1] * (w.dim() - 1))
    return found


def norm_miss(weights: Weights, direction: Weights) -> float:
    """Return how far the filters of `direction` are from being as long as those of `weights`.

    Relative to the longest filter; of what is no matrix, the largest number that is not 0.
    """
    worst = 0.0
    for name, w in weights.items():
        if w.dim() < 2:
            worst = max(worst, float(direction[name].abs().max()) if w.numel() else 0.0)
            continue
        target = w.detach().double().flatten(1).norm(dim=1)
        found = direction[name].double().flatten(1).norm(dim=1)
        worst = max(worst, float((found - target).abs().max() / target.max().clamp_min(1e-30)))
    return worst


def surface(
    model: nn.Module, data: tuple[Tensor, Tensor], plane: tuple[Weights, Weights],
    along: Sequence[float], across: Sequence[float], loss: Loss = F.cross_entropy,
) -> Tensor:  # fmt: skip
    """Return the loss at weights + a * first + b * second, float64 (len(across), len(along)).

    Args:
        model: in the middle; it is left as it is.
        data: prepared images (B, C, H, W) and targets (B,).
        plane: the first and the second direction.
        along: a, of the columns.
        across: b, of the rows.
        loss: (logits, targets) -> mean loss.
    """
    other = copy.deepcopy(model)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = torch.empty(len(across), len(along), dtype=torch.float64)
    with looking(other), torch.no_grad():
        for row, b in enumerate(across):
            for column, a in enumerate(along):
                for name, p in other.named_parameters():
                    p.copy_(start[name] + a * plane[0][name] + b * plane[1][name])
                found[row, column] = float(loss(other(data[0]), data[1]))
    return found


def loss_of(model: nn.Module, data: tuple[Tensor, Tensor], loss: Loss = F.cross_entropy) -> float:
    """Return the loss of `model` as it is, in eval mode."""
    with looking(model), torch.no_grad():
        return float(loss(model(data[0]), data[1]))


def between(
    model: nn.Module, data: tuple[Tensor, Tensor], ends: tuple[Weights, Weights],
    shares: Sequence[float], loss: Loss = F.cross_entropy,
) -> list[float]:  # fmt: skip
    """Return the loss on the straight line between two networks (Goodfellow et al., 2015).

    Args:
        model: says how to compute; it is left as it is.
        data: prepared images and targets.
        ends: state dicts; buffers of floating point are interpolated too, counters are the last's.
        shares: of the way, in [0, 1].
        loss: (logits, targets) -> mean loss.
    """
    other = copy.deepcopy(model)
    found = []
    for share in shares:
        mixed = {
            name: (1 - share) * ends[0][name] + share * last if last.is_floating_point() else last
            for name, last in ends[1].items()
        }
        other.load_state_dict(mixed)
        found.append(loss_of(other, data, loss))
    return found


@dataclass(frozen=True, eq=False)
class PathPlane:
    """The plane through a network that holds most of the way to it.

    Args:
        directions: two, each of length 1, at right angles.
        places: of each copy, float64 (copies, 2); the network is at 0, 0.
        shares: of the squared distances of the copies from the network, that each direction holds.
        rest: the share that neither holds, measured by itself.
    """

    directions: tuple[Weights, Weights]
    places: Tensor
    shares: tuple[float, float]
    rest: float


def path_plane(copies: Sequence[Weights], centre: Weights) -> PathPlane | None:
    """Return the plane of the first two principal components of `copies` around `centre`.

    None if the copies lie on a line, as two networks do.

    Args:
        copies: weights along the way; other tensors among them are ignored.
        centre: the parameters of the network at the end.
    """
    moves = {
        name: torch.stack([c[name].to(w.device).double() - w.double() for c in copies]).flatten(1)
        for name, w in centre.items()
    }
    powers, turns = torch.linalg.eigh(sum((m @ m.T for m in moves.values()), torch.zeros(())))
    total = float(powers.clamp_min(0).sum())
    if len(powers) < 2 or float(powers[-2]) <= 1e-9 * total or total == 0:
        return None
    parts = []
    for at in (-1, -2):
        turn = turns[:, at] / powers[at].sqrt()
        parts.append({name: turn @ m for name, m in moves.items()})
    places = torch.stack(
        [torch.stack([m @ part[name] for name, m in moves.items()]).sum(0) for part in parts], 1
    )
    left = sum(
        float((m - places[:, :1] * parts[0][n] - places[:, 1:] * parts[1][n]).square().sum())
        for n, m in moves.items()
    )
    first, second = (
        {name: part[name].view_as(w).to(w.dtype) for name, w in centre.items()} for part in parts
    )
    shares = (float(powers[-1]) / total, float(powers[-2]) / total)
    return PathPlane((first, second), places.cpu(), shares, left / total)


def pair_to_scale(ops: Sequence[Op]) -> tuple[nn.Module, nn.Module] | None:
    """Return two layers one after the other with nothing but ReLU, pooling and the like between.

    The first times c and the weights of the second divided by c compute the same. None if there
    are no such two, as where batch norm or a sum stands behind each layer.
    """
    used = [op.module for op in ops if op.call in WEIGHTED]
    for op in ops:
        after = _next(ops, op)
        if op.call in WEIGHTED and after is not None:
            two = (op.module, after.module)
            if all(used.count(part) == 1 and _plain(part) for part in two):
                return two
    return None


def scale_miss(
    model: nn.Module, data: tuple[Tensor, Tensor], pair: tuple[nn.Module, nn.Module],
    factor: float = 3.0,
) -> float:  # fmt: skip
    """Return how the picture changes when one layer grows and the next one shrinks: not at all.

    The same raw directions, normalised for either network; the corners of the plane, in float64.

    Args:
        model: holds both layers; it is left as it is.
        data: prepared images and targets; a few will do.
        pair: of `pair_to_scale`.
        factor: the first layer is multiplied by it, the weights of the second are divided.
    """
    names = {part: name for name, part in model.named_modules()}
    one = copy.deepcopy(model).double()
    other = copy.deepcopy(one)
    first, second = (other.get_submodule(names[part]) for part in pair)
    with torch.no_grad():
        for p in first.parameters(recurse=False):
            p.mul_(factor)
        second.get_parameter("weight").div_(factor)
    exact = (data[0].double(), data[1])
    found = []
    for net in (one, other):
        weights = dict(net.named_parameters())
        plane = [normalised(weights, raw_direction(net, which)) for which in (0, 1)]
        found.append(surface(net, exact, (plane[0], plane[1]), (-0.5, 0.0, 0.5), (-0.5, 0.5)))
    return float(((found[0] - found[1]) / found[0].abs().clamp_min(1e-12)).abs().max())


def _next(ops: Sequence[Op], op: Op) -> Op | None:
    """Return the layer with weights that gets what `op` gives, if nothing else does."""
    at = op
    while True:
        takers = [other for other in ops if at.index in other.sources]
        if len(takers) != 1:
            return None
        if takers[0].call in WEIGHTED:
            return takers[0]
        if takers[0].call not in PASSING:
            return None
        at = takers[0]


def _plain(part: nn.Module) -> bool:
    """Return whether a layer has a weight and perhaps a bias, and nothing else."""
    own = dict(part.named_parameters(recurse=False))
    return "weight" in own and set(own) <= {"weight", "bias"} and not list(part.children())


def _lengths(w: Tensor) -> Tensor:
    lengths: Tensor = w.detach().flatten(1).norm(dim=1)
    return lengths
