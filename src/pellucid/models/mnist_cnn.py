"""The two-convolution network for 28x28 digits: 421,642 parameters for 10 classes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from torch import Tensor, nn


class MnistCNN(nn.Module):
    """conv 32, pool, conv 64, pool, 128, classes.

    Args:
        shape: channels, height and width of the images; height and width at least 4.
        classes: number of classes.
        dropout: probability to drop each of the 128 hidden values in training.

    >>> import torch
    >>> net = MnistCNN((1, 28, 28), 10)
    >>> sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 1, 28, 28)).shape
    (421642, torch.Size([2, 10]))
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < 4:
            raise ValueError(f"the images must be at least 4x4 pixels; got {height}x{width}")
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(64 * (height // 4) * (width // 4), 128)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for images (B, C, H, W)."""
        x = self.relu(self.pool(self.conv1(x)))  # (B, 32, H/2, W/2)
        x = self.relu(self.pool(self.conv2(x)))  # (B, 64, H/4, W/4)
        x = self.relu(self.fc1(self.flatten(x)))  # (B, 128)
        logits: Tensor = self.fc2(self.dropout(x))
        return logits


class MnistCNNSpec(
    msgspec.Struct, frozen=True, tag_field="name", tag="mnist-cnn", forbid_unknown_fields=True
):
    """Names `MnistCNN` in a recipe."""

    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network for images of `shape` (C, H, W)."""
        return MnistCNN(shape, classes, self.dropout)
