"""What the last layer has learned of each class: weights, class means, and how far they collapse.

Only differences between classes count: the same vector added to the weights of all classes leaves
the softmax as it is. So weights are shown with their mean over the classes taken away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.logits import head
from pellucid.inspection.trace import Op, Tracer, looking, trace


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a model.

    Args:
        layer: its name.
        op: its index among the operations.
        weights: float64 (classes, features).
    """

    layer: str
    op: int
    weights: Tensor

    @property
    def centred(self) -> Tensor:
        """The weights with their mean over the classes taken away."""
        return self.weights - self.weights.mean(0)


def last_layer(model: nn.Module, image: Tensor) -> Head:
    """Return the linear layer that gives the logits.

    Raises:
        DoesNotApply: if the model does not end in one.
    """
    with looking(model), torch.no_grad():
        op = head(trace(model, image))
    return Head(op.name, op.index, op.args[1].detach().double())


def features(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], op: int
) -> tuple[Tensor, Tensor]:
    """Return what enters the last layer for each image, float64 (N, features), and the labels."""
    found: list[Tensor] = []

    def seen(one: Op) -> None:
        if one.index == op:
            found.append(one.args[0].detach().double().cpu())

    labels = []
    with looking(model), torch.no_grad():
        for images, targets in batches:
            with Tracer(model, images, seen):
                model(images)
            labels.append(targets)
    return torch.cat(found), torch.cat(labels)


def cosine_matrix(rows: Tensor) -> Tensor:
    """Return the cosines between rows (C, n), (C, C); 1 on the diagonal, unless a row is 0."""
    unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
    found: Tensor = unit @ unit.T
    return found


@dataclass(frozen=True, eq=False)
class Collapse:
    """How far features have collapsed to their class means (Papyan et al., 2020).

    Args:
        nc1: spread within classes against that between them, tr(W B^+) / C; 0 when each image
            lies on its class mean.
        cosines: of the centred class means (C, C); off the diagonal -1 / (C - 1) when they are
            as far apart as can be.
        nc2: mean distance of these off-diagonal cosines from -1 / (C - 1).
        means: centred class means (C, features).
    """

    nc1: float
    cosines: Tensor
    nc2: float
    means: Tensor


def collapse(values: Tensor, labels: Tensor, classes: int) -> Collapse:
    """Return the measures of neural collapse of features (N, n), which are float64.

    >>> corners = torch.eye(3).double()
    >>> found = collapse(corners.repeat(4, 1), torch.arange(3).repeat(4), 3)
    >>> round(found.nc1, 9) + 0, round(found.nc2, 9) + 0, round(float(found.cosines[0, 1]), 6)
    (0.0, 0.0, -0.5)
    """
    means = torch.stack([values[labels == c].mean(0) for c in range(classes)])
    centred = means - means.mean(0)
    apart = values - means[labels]
    within = apart.T @ apart / len(values)
    between = centred.T @ centred / classes
    nc1 = float(torch.trace(within @ torch.linalg.pinv(between, rtol=1e-10))) / classes
    cosines = cosine_matrix(centred)
    off = cosines[~torch.eye(classes, dtype=torch.bool)]
    return Collapse(nc1, cosines, float((off + 1 / (classes - 1)).abs().mean()), centred)
