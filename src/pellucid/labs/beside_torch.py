"""The rules of `rules.py` beside `torch.optim`: every option of each, on four surfaces at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.labs import rules
from pellucid.labs.result import Claim, agrees
from pellucid.labs.rules import Path
from pellucid.labs.surfaces import SURFACES, gradient_of, point, walk

Rule = Callable[..., Path]
Options = dict[str, Any]
GRID: tuple[tuple[str, Rule, type[torch.optim.Optimizer], tuple[Options, ...]], ...] = (
    ("SGD", rules.sgd, torch.optim.SGD, (
        {"lr": 1e-3}, {"lr": 1e-4, "momentum": 0.9},
        {"lr": 1e-4, "momentum": 0.5, "dampening": 0.3},
        {"lr": 1e-4, "momentum": 0.9, "nesterov": True}, {"lr": 1e-3, "weight_decay": 0.1},
        {"lr": 1e-4, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    )),
    ("Adagrad", rules.adagrad, torch.optim.Adagrad, (
        {}, {"lr": 0.1}, {"lr": 0.1, "lr_decay": 0.05}, {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "initial_accumulator_value": 2.0}, {"lr": 0.1, "eps": 0.1},
    )),
    ("RMSprop", rules.rmsprop, torch.optim.RMSprop, (
        {}, {"lr": 1e-3, "alpha": 0.9}, {"lr": 1e-3, "momentum": 0.9},
        {"lr": 1e-3, "centered": True}, {"lr": 1e-3, "eps": 0.1}, {"lr": 1e-3, "weight_decay": 0.1},
    )),
    ("Adam", rules.adam, torch.optim.Adam, (
        {}, {"lr": 0.05}, {"lr": 0.01, "betas": (0.5, 0.9)}, {"lr": 0.05, "eps": 0.1},
        {"lr": 0.05, "weight_decay": 0.1}, {"lr": 0.05, "amsgrad": True},
    )),
    ("AdamW", rules.adamw, torch.optim.AdamW, (
        {}, {"lr": 0.05, "weight_decay": 0.2}, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3},
        {"lr": 0.05, "weight_decay": 0.2, "amsgrad": True},
    )),
)  # fmt: skip
"""Every option of each, beside PyTorch's own class."""
STEPS = 200


def slopes(p: Tensor) -> Tensor:
    """Return the gradients of the four surfaces at the four rows of `p`, written out by hand.

    One walk then tests all surfaces, and is ten times as fast as with autograd.
    """
    x, y = p.unbind(1)
    bent, four, ravine, saddle = torch.eye(4, dtype=p.dtype)  # which row is which surface
    r, s, t = y - x**2, x**2 + y - 11, x + y**2 - 7
    by_x = bent * (-2 * (1 - x) - 400 * x * r) + four * (4 * x * s + 2 * t) + ravine * x
    by_y = bent * 200 * r + four * (2 * s + 4 * y * t) + ravine * 20 * y
    return torch.stack([by_x + saddle * 2 * x, by_y - saddle * 2 * y], 1)


def begin_all() -> Tensor:
    """Return a start for each surface."""
    return torch.stack([point(-1, -1), point(0.5, -0.3), point(4, 2), point(1, 0.1)])


def torch_walk(kind: Callable[..., torch.optim.Optimizer], options: Options) -> Tensor:
    """Return the points that an optimizer of PyTorch passes on all four surfaces."""
    w = begin_all()
    optimizer = kind([w], **options)
    points = [w.clone()]
    for _ in range(STEPS):
        w.grad = slopes(w)
        optimizer.step()
        points.append(w.clone())
    return torch.stack(points)


def as_torch() -> list[Claim]:
    """Walk with every option of every rule, and with PyTorch's optimizer beside it."""
    begin = begin_all()
    by_autograd = [gradient_of(s.f)(row) for s, row in zip(SURFACES.values(), begin, strict=True)]
    claims = [agrees("The gradients of all four surfaces by hand are autograd's", slopes(begin),
                     torch.stack(by_autograd), 1e-9)]  # fmt: skip
    for name, rule, kind, settings in GRID:
        ours = [walk(rule(slopes, begin, **options), begin, STEPS) for options in settings]
        theirs = [torch_walk(kind, options) for options in settings]
        count = f"{STEPS} steps on four surfaces, {len(settings)} settings"
        statement = f"{name} is torch.optim.{name}: {count}"
        claims.append(agrees(statement, torch.stack(ours), torch.stack(theirs), 1e-10, "T6.8"))
    return claims
