"""Networks of many sizes on the same few digits: by width, by depth, and with convolutions."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.small_net import some_digits
from pellucid.seeds import generator, reseed

TEACH, JUDGE = 300, 1000


class Net(NamedTuple):
    """A network of a given capacity, and what came of it: accuracies, in [0, 1]."""

    name: str
    weights: int
    train: float
    validation: float


SIZES = (
    *(("width", n) for n in (1, 2, 8, 32, 128)), *(("depth", n) for n in (2, 3)),
    *(("channels", n) for n in (1, 4, 16)),
)  # fmt: skip
"""Networks in the order of the table; depth is of hidden layers of 32 units."""
FLAT, DEEP = SIZES.index(("width", 32)), SIZES.index(("depth", 3))


def network(kind: str, size: int) -> nn.Sequential:
    """Return an MLP of one hidden layer by width, of 32 units by depth, or a CNN by channels.

    With tanh: a ReLU network of one unit that happens to be dead would say nothing on capacity.
    """
    if kind == "channels":
        return nn.Sequential(
            nn.Unflatten(1, (1, 14, 14)), nn.Conv2d(1, size, 3, 2), nn.Tanh(),
            nn.Conv2d(size, 2 * size, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8 * size, 10),
        )  # fmt: skip
    widths = [196, size] if kind == "width" else [196] + size * [32]
    layers = [
        layer
        for n, m in zip(widths, widths[1:], strict=False)
        for layer in (nn.Linear(n, m), nn.Tanh())
    ]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def on_digits(seed: int, random: bool = False, steps: int = 80) -> list[Net]:
    """Train each network on the same digits; with `random`, on labels that mean nothing."""
    x, y = some_digits(TEACH + JUDGE, generator(seed, "lab"))
    if random:
        y = torch.randint(10, y.shape, generator=generator(seed, "lab", 2))
    return [trained(kind, size, x, y, seed, steps) for kind, size in SIZES]


def trained(kind: str, size: int, x: Tensor, y: Tensor, seed: int, steps: int) -> Net:
    """Train with Adam on all TEACH images in each step, and judge both parts."""
    reseed(seed, "lab", size)
    net = network(kind, size)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x[:TEACH]), y[:TEACH]).backward()
        optimizer.step()
    with torch.no_grad():
        right = (net(x).argmax(1) == y).double()
    weights = sum(p.numel() for p in net.parameters())
    name = f"{kind} {size}"
    return Net(name, weights, float(right[:TEACH].mean()), float(right[TEACH:].mean()))
