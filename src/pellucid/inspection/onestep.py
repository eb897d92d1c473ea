"""One optimizer step under glass: what it was told to do, what it did, what that changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Loss = Callable[[nn.Module], Tensor]
"""From a model to the loss of one batch, the same batch and the same random draws each time."""

SCALES = (1.0, 0.1, 0.01, 0.001)
"""Shares of the step at which the forecast is compared with what happens."""


@dataclass(frozen=True, eq=False)
class OneStep:
    """What one step did.

    Args:
        loss: before.
        after: of the same batch, after.
        gradients: of each parameter, as `backward` gave them.
        before: the weights by name.
        changes: of the weights by name.
        forecast: sum of gradient times change: what the loss should do, to first order.
    """

    loss: float
    after: float
    gradients: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    changes: Mapping[str, Tensor]
    forecast: float


def take_step(model: nn.Module, loss: Loss, step: Callable[[], object]) -> OneStep:
    """Take one step of `model`, which is changed by it, and return what it did.

    Args:
        model: with no gradients.
        loss: of one batch.
        step: clips and steps; called when the gradients are there.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = net.weight.data.fill_(2.0)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> loss = lambda m: (m(torch.ones(1, 1, dtype=m.weight.dtype)) ** 2).sum()
    >>> seen = take_step(net, loss, sgd.step)
    >>> round(seen.loss, 2), round(net.weight.item(), 2), round(seen.forecast, 2)
    (4.0, 1.6, -1.6)
    """
    first = loss(model)
    first.backward()
    gradients = _gradients(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step()
    changes = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        after = float(loss(model))
    forecast = sum(
        float((g.double() * changes[name].double()).sum()) for name, g in gradients.items()
    )
    return OneStep(float(first.detach()), after, gradients, before, changes, forecast)


@dataclass(frozen=True)
class Checks:
    """How far a step keeps to what must hold for any.

    Args:
        ratios: for each of `SCALES`, (change of the loss) / (its forecast) when only that share of
            the step is taken; float64. They go to 1.
        doubled: largest difference between twice the gradient and what is there when `backward`
            runs a second time without clearing, relative to the largest gradient.
        sgd: largest difference between a plain SGD step of PyTorch and `w - lr * g`.
    """

    ratios: tuple[float, ...]
    doubled: float
    sgd: float


def check_step(start: nn.Module, loss: Loss, changes: Mapping[str, Tensor], lr: float) -> Checks:
    """Return how a step from `start` keeps to the forecast, to clearing and to plain SGD.

    It costs four passes forward and back, and another four forward in float64: a few images will
    do, as each of the identities holds for any loss.

    Args:
        start: the network before the step; it is left as it is.
        loss: of the batch, or of a part of it; also asked for with weights in float64.
        changes: of the weights by name.
        lr: above 0, of the plain SGD step.
    """
    model = copy.deepcopy(start)
    model.zero_grad(set_to_none=True)
    return Checks(_ratios(model, loss, changes), _twice(model, loss), sgd_miss(model, loss, lr))


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.detach().clone() for n, p in model.named_parameters() if p.grad is not None}


def _twice(start: nn.Module, loss: Loss) -> float:
    """Return how far the gradient of two backward passes is from twice that of one."""
    other = copy.deepcopy(start)
    loss(other).backward()
    gradients = _gradients(other)
    loss(other).backward()  # nothing was cleared
    found = _gradients(other)
    scale = max(float(g.abs().max()) for g in gradients.values()) or 1.0
    return max(float((found[n] - 2 * g).abs().max()) for n, g in gradients.items()) / scale


def _ratios(start: nn.Module, loss: Loss, changes: Mapping[str, Tensor]) -> tuple[float, ...]:
    exact = copy.deepcopy(start).double()
    before = loss(exact)
    before.backward()
    slope = sum(float((g * changes[n].double()).sum()) for n, g in _gradients(exact).items())
    weights = {n: p.detach().clone() for n, p in exact.named_parameters()}
    found = []
    for scale in SCALES:
        with torch.no_grad():
            for name, p in exact.named_parameters():
                p.copy_(weights[name] + scale * changes[name].double())
            real = float(loss(exact)) - float(before.detach())
        found.append(real / (scale * slope) if slope else float("nan"))
    return tuple(found)


def sgd_miss(model: nn.Module, loss: Loss, lr: float) -> float:
    """Return how far a plain SGD step of PyTorch is from `w - lr * g`: 0, to the bit.

    `model` is left as it is.
    """
    other = copy.deepcopy(model)
    other.zero_grad(set_to_none=True)
    loss(other).backward()
    expected = {
        n: torch.add(p.detach(), p.grad, alpha=-lr)
        for n, p in other.named_parameters()
        if p.grad is not None
    }
    torch.optim.SGD(other.parameters(), lr=lr).step()
    now = dict(other.named_parameters())
    return max(float((now[n].detach() - value).abs().max()) for n, value in expected.items())
