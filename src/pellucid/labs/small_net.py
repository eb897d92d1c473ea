"""Many small networks at once on real digits: one for each learning rate and each seed.

Images of 14x14 (means of 2x2 pixels), 32 units, 10 classes. All networks of a seed have the same
first weights and see the same batches. The 5,000 training images of `digits` are cut into three
parts: 2,000 teach, 1,000 choose, 2,000 judge. Test images stay closed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.data.digits import Digits
from pellucid.labs.rules import Gradient, Path
from pellucid.seeds import generator

IN, HIDDEN, OUT, BATCH = 196, 32, 10, 50
SIZE = IN * HIDDEN + HIDDEN + HIDDEN * OUT + OUT
Rule = Callable[[Gradient, Tensor, Tensor], Path]
"""A rule of `rules.py`, from gradient, first weights and learning rates to the weights after."""


T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for 95 %, by number of pairs."""


class Part(NamedTuple):
    """Images (N, 196) from 0 to 1 and their labels (N,)."""

    x: Tensor
    y: Tensor


def some_digits(count: int, draws: torch.Generator) -> Part:
    """Return training images of digits, in a random order, as 14x14 pixels."""
    images = Digits().load().train
    rows = torch.randperm(len(images), generator=draws)[:count]
    small = F.avg_pool2d(images.pixels(rows).float() / 255, 2).flatten(1)
    return Part(small, images.targets[rows])


@cache
def parts() -> tuple[Part, Part, Part]:
    """Return what teaches, what chooses, and what judges."""
    x, y = (both.split([2000, 1000, 2000]) for both in some_digits(5000, generator(0, "lab")))
    first, second, third = (Part(a, b) for a, b in zip(x, y, strict=True))
    return first, second, third


def starts(seeds: int, seed: int) -> Tensor:
    """Return first weights (seeds, SIZE), drawn as PyTorch draws those of `Linear`."""
    rows = []
    for k in range(seeds):
        draws = generator(seed, "lab", k)
        sizes = (IN * HIDDEN, IN), (HIDDEN, IN), (HIDDEN * OUT, HIDDEN), (OUT, HIDDEN)
        rows.append(torch.cat([
            (2 * torch.rand(n, generator=draws) - 1) / math.sqrt(fan_in) for n, fan_in in sizes
        ]))  # fmt: skip
    return torch.stack(rows)


def network(w: Tensor, x: Tensor) -> Tensor:
    """Return the logits (..., N, 10) of networks with weights `w` (..., SIZE)."""
    w1, b1, w2, b2 = w.split([IN * HIDDEN, HIDDEN, HIDDEN * OUT, OUT], -1)
    h: Tensor = torch.relu(x @ w1.unflatten(-1, (IN, HIDDEN)) + b1[..., None, :])
    z: Tensor = h @ w2.unflatten(-1, (HIDDEN, OUT)) + b2[..., None, :]
    return z


def loss_of(z: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (..., N, 10)."""
    picked = z.log_softmax(-1).gather(-1, y.expand(z.shape[:-1])[..., None])
    return -picked.squeeze(-1).mean(-1)


@torch.no_grad()
def judged(w: Tensor, part: Part) -> tuple[Tensor, Tensor]:
    """Return loss and accuracy of networks `w` (..., SIZE) on a part; a broken one has infinity."""
    z = network(w, part.x)
    loss = loss_of(z, part.y).nan_to_num(math.inf, math.inf)
    return loss, (z.argmax(-1) == part.y).float().mean(-1)


def batches(seeds: int, seed: int) -> Iterator[Part]:
    """Return batches without end, (seeds, BATCH, ...): each seed in an order of its own."""
    teach, _, _ = parts()
    epoch = 0
    while True:
        orders = torch.stack([
            torch.randperm(len(teach.y), generator=generator(seed, "lab", k, epoch))
            for k in range(seeds)
        ])  # fmt: skip
        for rows in orders.split(BATCH, 1):
            yield Part(teach.x[rows], teach.y[rows])
        epoch += 1


def trained(rule: Rule, rates: Tensor, seeds: int, seed: int, steps: int) -> Iterator[Tensor]:
    """Return the weights (rates, seeds, SIZE) after each of `steps` steps.

    Args:
        rule: how a step is made.
        rates: one or more learning rates, (R,).
        seeds: networks for each rate.
        seed: of first weights and batches.
        steps: on batches of 50 images.
    """
    stream = batches(seeds, seed)
    begin = starts(seeds, seed).expand(len(rates), seeds, SIZE)

    def gradient(w: Tensor) -> Tensor:
        batch = next(stream)
        leaf = w.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(network(leaf, batch.x), batch.y).sum(), leaf)
        return slope

    return islice(rule(gradient, begin, rates[:, None, None]), steps)


def verdict(apart: Tensor, ours: str, theirs: str) -> str:
    """Say what paired differences (n,) of 2 to 5 seeds show at 95 %, by Student's t.

    >>> verdict(torch.tensor([0.01, -0.01, 0.0]), "a", "b")
    'no difference shown (+0.0000)'
    >>> verdict(torch.tensor([0.10, 0.11, 0.09]), "a", "b")
    'a ahead by 0.1000'
    """
    mean = float(apart.mean())
    error = float(apart.std()) / len(apart) ** 0.5
    if abs(mean) <= T[len(apart)] * error or mean == 0:
        return f"no difference shown ({mean:+.4f})"
    return f"{ours if mean > 0 else theirs} ahead by {abs(mean):.4f}"
