"""A penalty in the loss beside the `weight_decay` of PyTorch's optimizers: where they are one.

Loshchilov and Hutter, Decoupled weight decay regularization (2019).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.result import Claim, agrees, at_least, equals
from pellucid.optim.groups import decay_groups
from pellucid.seeds import reseed


def decay(seed: int) -> list[Claim]:
    """Train a small network with the one and with the other, and compare the weights."""
    lam, sgd, adam, adamw = 0.05, torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    apart = (trained(seed, adamw, lam) - trained(seed, adam, lam)).abs().max()
    layer = nn.Linear(3, 2)
    nn.init.ones_(layer.weight)
    layer.weight.grad, layer.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    groups = decay_groups(layer, 0.5)
    torch.optim.AdamW(groups, lr=0.1).step()
    decayed = [g["weight_decay"] for g in groups for p in g["params"] if p.dim() == 1]
    return [
        agrees("SGD: lambda sum(w^2) in the loss is weight_decay = 2 lambda, 30 steps",
               trained(seed, sgd, lam), trained(seed, sgd, 0, lam), 1e-9, "T6.16"),
        agrees("Adam's weight_decay is the penalty, too", trained(seed, adam, lam),
               trained(seed, adam, 0, lam), 1e-6, "T6.4"),
        at_least("AdamW's is another: largest difference of a weight", apart, 1e-3, "T6.4"),
        equals("AdamW without a gradient, lr 0.1, weight_decay 0.5: a weight of 1 becomes",
               layer.weight[0, 0], 1 - 0.1 * 0.5, 1e-6, "T6.13"),
        equals("Biases are left out of it here", sum(decayed), 0, 0, "T6.12"),
        equals("Of (3, 4): the norm", torch.tensor([3.0, 4.0]).norm(), 5, 1e-6, "T5.14"),
        equals("the penalty, with lambda 0.1", 0.1 * torch.tensor([3.0, 4.0]).square().sum(), 2.5,
               1e-6, "T5.14"),
        equals("the loss of it as an error, its mean square",
               F.mse_loss(torch.tensor([3.0, 4.0]), torch.zeros(2)), 12.5, 1e-6, "T5.14"),
    ]  # fmt: skip


def trained(
    seed: int, kind: type[torch.optim.Optimizer], lam: float, in_loss: float = 0.0
) -> Tensor:
    """Return the weights of a small network after 30 steps, with weight_decay = 2 lambda."""
    reseed(seed, "lab", 1)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x, y = torch.randn(20, 4).double(), torch.randn(20, 1).double()
    optimizer = kind(net.parameters(), lr=0.02, weight_decay=2 * lam)  # type: ignore[call-arg]
    for _ in range(30):
        penalty = sum((p.square().sum() for p in net.parameters()), torch.zeros(()).double())
        optimizer.zero_grad()
        (F.mse_loss(net(x), y) + in_loss * penalty).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])
