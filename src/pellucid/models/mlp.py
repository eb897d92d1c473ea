"""The multi-layer perceptron 784-200-200-10: 199,210 parameters on 28x28 digits."""

from __future__ import annotations

from typing import Annotated

import msgspec
from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers with ReLU between them.

    The weights start as He et al. (2015) propose for ReLU: normal with variance 2 / fan-in,
    biases 0.

    Args:
        shape: channels, height and width of the images.
        classes: number of classes.
        hidden: widths of the hidden layers.
        dropout: probability to drop each hidden value in training.

    >>> sum(p.numel() for p in MLP((1, 28, 28), 10).parameters())
    199210
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        hidden: tuple[int, ...] = (200, 200),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        widths = [channels * height * width, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for images (B, C, H, W)."""
        logits: Tensor = self.layers(x)
        return logits


class MLPSpec(msgspec.Struct, frozen=True, tag_field="name", tag="mlp", forbid_unknown_fields=True):
    """Names `MLP` in a recipe."""

    hidden: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = (200, 200)
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network for images of `shape` (C, H, W)."""
        return MLP(shape, classes, self.hidden, self.dropout)
