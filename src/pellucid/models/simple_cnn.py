"""The three-convolution network for 32x32 colour images: 94,890 parameters for 10 classes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """conv 32, conv 32, conv 64, each with a pool; 64, classes.

    Args:
        shape: channels, height and width of the images; height and width at least 8.
        classes: number of classes.
        dropout: probability to drop each of the 64 hidden values in training.

    >>> import torch
    >>> net = SimpleCNN((3, 32, 32), 10)
    >>> sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 3, 32, 32)).shape
    (94890, torch.Size([2, 10]))
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < 8:
            raise ValueError(f"the images must be at least 8x8 pixels; got {height}x{width}")
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(64 * (height // 8) * (width // 8), 64)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for images (B, C, H, W)."""
        x = self.relu(self.pool(self.conv1(x)))  # (B, 32, H/2, W/2)
        x = self.relu(self.pool(self.conv2(x)))  # (B, 32, H/4, W/4)
        x = self.relu(self.pool(self.conv3(x)))  # (B, 64, H/8, W/8)
        x = self.relu(self.fc1(self.flatten(x)))  # (B, 64)
        logits: Tensor = self.fc2(self.dropout(x))
        return logits


class SimpleCNNSpec(
    msgspec.Struct, frozen=True, tag_field="name", tag="simple-cnn", forbid_unknown_fields=True
):
    """Names `SimpleCNN` in a recipe."""

    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network for images of `shape` (C, H, W)."""
        return SimpleCNN(shape, classes, self.dropout)
