"""Optimizers of `torch.optim`, as values in a recipe.

All are built with `fused=True`: one kernel for all parameters, on a CPU too.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
from torch import nn

from pellucid.optim.groups import decay_groups

Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Decay = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class SGD(msgspec.Struct, frozen=True, tag_field="name", tag="sgd", forbid_unknown_fields=True):
    """Stochastic gradient descent, with momentum if it is above 0."""

    lr: Rate = 0.05
    momentum: Share = 0.9
    nesterov: bool = True
    weight_decay: Decay = 5e-4

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0: set `nesterov = false` too")

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of the parameters of `model`."""
        return torch.optim.SGD(
            decay_groups(model, self.weight_decay),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            fused=True,
        )


class Adam(msgspec.Struct, frozen=True, tag_field="name", tag="adam", forbid_unknown_fields=True):
    """Adam (Kingma and Ba, 2015); `weight_decay` is added to the gradient."""

    lr: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Rate = 1e-8
    weight_decay: Decay = 0.0

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of the parameters of `model`."""
        groups = decay_groups(model, self.weight_decay)
        return torch.optim.Adam(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


class AdamW(msgspec.Struct, frozen=True, tag_field="name", tag="adamw", forbid_unknown_fields=True):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    lr: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Rate = 1e-8
    weight_decay: Decay = 0.01

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of the parameters of `model`."""
        groups = decay_groups(model, self.weight_decay)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)
