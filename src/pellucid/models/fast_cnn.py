"""A network that learns in few epochs: after David Page's ResNet and airbench, without residuals.

Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024), section 3.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
SMALLEST = 2
"""Pixels on each side that have to be left where the last convolution begins."""


class FastCNN(nn.Module):
    """A convolution that may be whitened, groups of 3x3 convolutions, the maximum over all places.

    The first convolution has a bias and no normalisation: `init.name = "whitening"` sets its
    filters from the images and keeps them. Each group halves the image in its first convolution,
    before normalisation and activation: a max-pool there costs a quarter of what it costs behind.

    Args:
        shape: channels, height and width of the images.
        classes: number of classes.
        widths: channels of the first convolution, then of each group.
        depth: convolutions in each group.
        kernel: side of the first convolution's filters.
        stride: of the first convolution.
        last_pool: whether the last group halves the image, too.
        activation: after each normalisation.
        norm_scale: whether normalisation learns a scale beside its bias.
        logit_scale: factor on the output, above 0.

    >>> import torch
    >>> net = FastCNN((1, 28, 28), 10)
    >>> sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 1, 28, 28)).shape
    (57216, torch.Size([2, 10]))
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        widths: tuple[int, ...] = (32, 64, 64),
        depth: int = 1,
        kernel: int = 5,
        stride: int = 2,
        last_pool: bool = False,
        activation: Literal["relu", "gelu", "silu"] = "relu",
        norm_scale: bool = False,
        logit_scale: float = 1.0,
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.first = nn.Conv2d(shape[0], widths[0], kernel, stride, padding)
        self.activation = ACTIVATIONS[activation]()
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in shape[1:]]
        groups = len(widths) - 1
        pools = [group < groups - 1 or last_pool for group in range(groups)]
        left = min(sides) // 2 ** sum(pools)
        if left < SMALLEST:
            raise ValueError(
                f"model.widths {list(widths)}, stride {stride}: images of {shape[1]}x{shape[2]} "
                f"pixels are {left} pixels wide after {sum(pools)} halvings, and {SMALLEST} are "
                "the least. Give fewer widths or a smaller stride"
            )
        layers: list[nn.Module] = []
        for inputs, outputs, pool in zip(widths, widths[1:], pools, strict=False):
            layers += self._convolution(inputs, outputs, pool, norm_scale)
            for _ in range(depth - 1):
                layers += self._convolution(outputs, outputs, False, norm_scale)
        self.groups = nn.Sequential(*layers)
        self.largest = nn.AdaptiveMaxPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[-1], classes, bias=False)
        self.logit_scale = logit_scale

    def _convolution(
        self, inputs: int, outputs: int, pool: bool, norm_scale: bool
    ) -> list[nn.Module]:
        norm = nn.BatchNorm2d(outputs, momentum=0.3)  # few steps: the running mean has to hurry
        norm.weight.requires_grad_(norm_scale)
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            *([nn.MaxPool2d(2)] * pool),
            norm,
            type(self.activation)(),
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for images (B, C, H, W)."""
        x = self.groups(self.activation(self.first(x)))
        logits: Tensor = self.fc(self.flatten(self.largest(x)))
        return logits * self.logit_scale


class FastCNNSpec(
    msgspec.Struct, frozen=True, tag_field="name", tag="fast-cnn", forbid_unknown_fields=True
):
    """Names `FastCNN` in a recipe."""

    widths: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1)], ...], msgspec.Meta(min_length=2)
    ] = (32, 64, 64)
    depth: Annotated[int, msgspec.Meta(ge=1)] = 1
    kernel: Annotated[int, msgspec.Meta(ge=1)] = 5
    stride: Annotated[int, msgspec.Meta(ge=1)] = 2
    last_pool: bool = False
    activation: Literal["relu", "gelu", "silu"] = "relu"
    norm_scale: bool = False
    logit_scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network for images of `shape` (C, H, W)."""
        return FastCNN(
            shape, classes, self.widths, self.depth, self.kernel, self.stride, self.last_pool,
            self.activation, self.norm_scale, self.logit_scale,
        )  # fmt: skip
