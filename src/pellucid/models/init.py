"""Initial weights, as a value in a recipe: the model's own, or another rule for all its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from torch import Tensor, nn

Fill = Callable[[Tensor], object]


class Default(msgspec.Struct, frozen=True, tag_field="name", tag="default",
              forbid_unknown_fields=True):  # fmt: skip
    """As the model's own code draws them (PyTorch's default where it says nothing)."""

    def apply(self, model: nn.Module) -> None:
        """Leave the weights as they are."""


class Kaiming(msgspec.Struct, frozen=True, tag_field="name", tag="kaiming",
              forbid_unknown_fields=True):  # fmt: skip
    """Normal with variance 2 / fan-in, which keeps the scale of signals through ReLU; biases 0.

    He et al. (2015), "Delving deep into rectifiers".
    """

    def apply(self, model: nn.Module) -> None:
        """Draw the weights of all linear and convolutional layers anew."""
        _fill(model, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"))


class Xavier(msgspec.Struct, frozen=True, tag_field="name", tag="xavier",
             forbid_unknown_fields=True):  # fmt: skip
    """Uniform with variance 2 / (fan-in + fan-out), meant for tanh and linear layers; biases 0.

    Glorot and Bengio (2010).
    """

    def apply(self, model: nn.Module) -> None:
        """Draw the weights of all linear and convolutional layers anew."""
        _fill(model, nn.init.xavier_uniform_)


class Bad(msgspec.Struct, frozen=True, tag_field="name", tag="bad", forbid_unknown_fields=True):
    """Normal with one standard deviation for all layers; biases 0. To see what it does.

    At 0.001 signals and gradients shrink from layer to layer and the loss stands still; at 1
    they grow.

    Args:
        std: the standard deviation, above 0.
    """

    std: Annotated[float, msgspec.Meta(gt=0)] = 0.001

    def apply(self, model: nn.Module) -> None:
        """Draw the weights of all linear and convolutional layers anew."""
        _fill(model, lambda weight: nn.init.normal_(weight, std=self.std))


def _fill(model: nn.Module, fill: Fill) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            fill(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
