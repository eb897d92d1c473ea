"""How weights move over a run: how far from the start, by which way, towards what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Course:
    """The way of one tensor of weights; each a float64 (copies,).

    Args:
        displacement: |w_t - w_0| / |w_0|.
        path: length of the way so far, through all copies, / |w_0|; never below the displacement.
        cosine: to the last copy.
        ratio: |w_t - w_(t-1)| / |w_(t-1)| per optimizer step; 0 at the first copy.
    """

    displacement: Tensor
    path: Tensor
    cosine: Tensor
    ratio: Tensor


def course(copies: Sequence[Tensor], steps: Sequence[int]) -> Course:
    """Return the way of weights through `copies`, taken after `steps` optimizer steps.

    Weights that start at 0 are measured by where they end.

    >>> way = course([torch.tensor([1.0, 0]), torch.tensor([1.0, 1]), torch.tensor([1.0, 0])],
    ...              [0, 10, 20])
    >>> way.displacement.tolist(), way.path.tolist()
    ([0.0, 1.0, 0.0], [0.0, 1.0, 2.0])
    """
    flat = torch.stack([copy.double().flatten() for copy in copies])
    scale = flat[0].norm() if float(flat[0].norm()) > 0 else flat[-1].norm()
    scale = scale.clamp_min(1e-300)
    moves = (flat[1:] - flat[:-1]).norm(dim=1)
    none = torch.zeros(1, dtype=torch.float64)
    lengths = torch.tensor([b - a for a, b in zip(steps, steps[1:], strict=False)]).double()
    norms = flat.norm(dim=1)
    cosine = flat @ flat[-1] / (norms * norms[-1]).clamp_min(1e-300)
    ratio = moves / norms[:-1].clamp_min(1e-300) / lengths.clamp_min(1)
    return Course(
        (flat - flat[0]).norm(dim=1) / scale,
        torch.cat([none, moves.cumsum(0)]) / scale,
        cosine,
        torch.cat([none, ratio]),
    )


def courses(copies: Sequence[Mapping[str, Tensor]], steps: Sequence[int]) -> dict[str, Course]:
    """Return the way of each tensor of weights with two or more dimensions, by name."""
    names = [name for name, values in copies[0].items() if values.dim() > 1]
    return {name: course([copy[name] for copy in copies], steps) for name in names}
