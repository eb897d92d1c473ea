"""A network that learns in few epochs: after David Page's ResNet and airbench, without residuals.

Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024), section 3.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
Positive = Annotated[int, msgspec.Meta(ge=1)]


class FastCNN(nn.Module):
    """A convolution that may be whitened, 3x3 convolutions, the maximum over all places.

    The first convolution has no normalisation: `init.name = "whitening"` sets its
    filters from the images and keeps them. Each later one is followed by batch normalisation and
    the activation.

    Args:
        shape: channels, height and width of the images.
        classes: number of classes.
        widths: channels of each convolution.
        strides: of each. A 2 halves the image.
        kernel: side of the first convolution's filters; of the others 3.
        pad_first: whether the first convolution pads the image by zeros to keep its size. Without,
            it takes fewer places, which is right where the rim of the images is empty.
        bias: whether the first convolution has one. Without, and with whitened filters, which are
            kept, nothing has to be computed backward for it, often the largest of all.
        pool: whether the later convolutions halve the image by a 2x2 max-pool before
            normalisation, where it costs a quarter of what it costs behind it, or by their stride.
        activation: after the first convolution and after each normalisation.
        norm_scale: whether normalisation learns a scale beside its bias.
        logit_scale: factor on the output, above 0.

    >>> import torch
    >>> net = FastCNN((1, 28, 28), 10)
    >>> sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 1, 28, 28)).shape
    (66304, torch.Size([2, 10]))
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        widths: tuple[int, ...] = (32, 32, 64, 64),
        strides: tuple[int, ...] = (2, 1, 2, 1),
        kernel: int = 5,
        pad_first: bool = True,
        bias: bool = True,
        pool: bool = False,
        activation: Literal["relu", "gelu", "silu"] = "relu",
        norm_scale: bool = True,
        logit_scale: float = 1.0,
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        padding = (kernel - 1) // 2 if pad_first else 0
        left = min(shape[1:])
        if left + 2 * padding < kernel:
            raise ValueError(
                f"model.kernel {kernel} is larger than the images of {shape[1]}x{shape[2]} pixels. "
                "Give a smaller one, or --model.pad-first on"
            )
        left += 2 * padding - kernel + 1
        layers: list[nn.Module] = []
        for number, (width, stride) in enumerate(zip(widths, strides, strict=True)):
            if left < stride:
                raise ValueError(
                    f"model.strides {list(strides)}: images of {shape[1]}x{shape[2]} pixels are "
                    f"{left} pixel wide before number {number + 1}. Give fewer that are above 1"
                )
            left = -(-left // stride)
            if number == 0:
                layers += [nn.Conv2d(shape[0], width, kernel, stride, padding, bias=bias), act()]
                continue
            norm = nn.BatchNorm2d(width, momentum=0.3)  # few steps: the running mean has to hurry
            norm.weight.requires_grad_(norm_scale)
            pooled = [nn.MaxPool2d(stride, ceil_mode=True)] if pool and stride > 1 else []
            by_stride = 1 if pool else stride
            inputs = widths[number - 1]
            layers += [
                nn.Conv2d(inputs, width, 3, by_stride, padding=1, bias=False), *pooled, norm, act(),
            ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.largest = nn.AdaptiveMaxPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[-1], classes, bias=False)
        self.logit_scale = logit_scale

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for images (B, C, H, W)."""
        logits: Tensor = self.fc(self.flatten(self.largest(self.layers(x))))
        return logits * self.logit_scale


class FastCNNSpec(
    msgspec.Struct, frozen=True, tag_field="name", tag="fast-cnn", forbid_unknown_fields=True
):
    """Names `FastCNN` in a recipe."""

    widths: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)] = (32, 32, 64, 64)
    strides: tuple[Positive, ...] = (2, 1, 2, 1)
    kernel: Positive = 5
    pad_first: bool = True
    bias: bool = True
    pool: bool = False
    activation: Literal["relu", "gelu", "silu"] = "relu"
    norm_scale: bool = True
    logit_scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.strides):
            raise ValueError(
                f"widths and strides have a number for each convolution; got {len(self.widths)} "
                f"widths and {len(self.strides)} strides"
            )

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network for images of `shape` (C, H, W)."""
        return FastCNN(
            shape, classes, self.widths, self.strides, self.kernel, self.pad_first, self.bias,
            self.pool, self.activation, self.norm_scale, self.logit_scale,
        )  # fmt: skip
