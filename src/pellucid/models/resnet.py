"""The residual network for small images of He et al. (2015), section 4.2."""

from __future__ import annotations

from typing import Annotated

import msgspec
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions around which the input is carried unchanged.

    Where the number of channels grows the image is halved, and the input is averaged over 2x2
    pixels before a 1x1 convolution (the D variant of He et al., "Bag of tricks", 2018): the
    strided 1x1 convolution of the first paper throws three of four pixels away.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.carry = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H / stride, W / stride) for (B, inputs, H, W)."""
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Tensor = self.relu(y + self.carry(x))
        return out


class ResNet(nn.Module):
    """A 3x3 convolution, three groups of blocks, the mean over all places, a linear layer.

    Weights start as He et al. propose for ReLU. The last scale of each block starts at 0, so
    that at the start a block passes its input on (Goyal et al., 2017).

    Args:
        shape: channels, height and width of the images; any size.
        classes: number of classes.
        depth: number of layers with weights, 6 n + 2: 8, 14, 20, 32, ...
        width: channels of the first group; the next ones have twice and four times as many.
        dropout: probability to drop each of the averaged values in training.

    >>> import torch
    >>> net = ResNet((3, 32, 32), 10)
    >>> sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 3, 32, 32)).shape
    (272474, torch.Size([2, 10]))
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        depth: int = 20,
        width: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        groups, inputs = [], width
        for group in range(3):
            outputs = width * 2**group
            strides = [1 if group == 0 else 2] + [1] * (blocks - 1)
            layers = []
            for stride in strides:
                layers.append(Block(inputs, outputs, stride))
                inputs = outputs
            groups.append(nn.Sequential(*layers))
        self.groups = nn.Sequential(*groups)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Block):
                nn.init.zeros_(module.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for images (B, C, H, W)."""
        x = self.relu(self.norm(self.conv(x)))  # (B, width, H, W)
        x = self.groups(x)  # (B, 4 * width, H/4, W/4)
        logits: Tensor = self.fc(self.dropout(self.flatten(self.mean(x))))
        return logits


class ResNetSpec(
    msgspec.Struct, frozen=True, tag_field="name", tag="resnet", forbid_unknown_fields=True
):
    """Names `ResNet` in a recipe."""

    depth: Annotated[int, msgspec.Meta(ge=8)] = 20
    width: Annotated[int, msgspec.Meta(ge=1)] = 16
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        if self.depth % 6 != 2:
            raise ValueError(f"depth must be 6 n + 2: 8, 14, 20, 26, 32, ...; got {self.depth}")

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network for images of `shape` (C, H, W)."""
        return ResNet(shape, classes, self.depth, self.width, self.dropout)
