"""The two networks in plain PyTorch, as the textbook writes them or with the pools first.

ReLU and max-pooling commute, so the numbers are the same; with the pools first ReLU has a quarter
of the work. The names of the weights are those of pellucid's networks.
"""

from __future__ import annotations

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.arrays import Work


class Net(nn.Module):
    """Convolutions with a pool each, a hidden layer, ten classes.

    Args:
        widths: channels before, between and after the convolutions.
        side: of the square that is left after the pools.
        hidden: values of the hidden layer.
        pool_first: max-pooling before ReLU.
    """

    def __init__(self, widths: tuple[int, ...], side: int, hidden: int, pool_first: bool) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        for number in range(self.depth):
            conv = nn.Conv2d(widths[number], widths[number + 1], 3, padding=1)
            self.add_module(f"conv{number + 1}", conv)
        self.fc1 = nn.Linear(widths[-1] * side * side, hidden)
        self.fc2 = nn.Linear(hidden, 10)
        self.pool = nn.MaxPool2d(2)
        self.pool_first = pool_first

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 10) for images (B, C, H, W)."""
        for number in range(self.depth):
            x = self.get_submodule(f"conv{number + 1}")(x)
            x = F.relu(self.pool(x)) if self.pool_first else self.pool(F.relu(x))
        logits: Tensor = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return logits


def net(work: Work, pool_first: bool, channels_last: bool) -> Net:
    """Return the network of `work` with its first weights."""
    if work.data == "cifar10":
        model = Net((3, 32, 32, 64), 4, 64, pool_first)
    else:
        model = Net((1, 32, 64), 7, 128, pool_first)
    model.load_state_dict(safetensors.torch.load_file(work.weights))
    return model.to(memory_format=torch.channels_last) if channels_last else model
