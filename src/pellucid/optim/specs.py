"""Optimizers of `torch.optim`, as values in a recipe.

Built with `fused=True`, one kernel for all parameters, where PyTorch has one for a CPU.
Weight decay and L1 act on weights of two or more dimensions: see `groups.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from pellucid.optim.groups import decay_groups
from pellucid.optim.light import Light
from pellucid.optim.muon import MuonAdamW

Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Decay = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Groups = list[dict[str, Any]]


class Optimizing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all optimizers share.

    Args:
        lr: the full learning rate, which the schedule scales.
        weight_decay: L2: added to the gradient as `weight_decay * weight`; in `adamw` and `muon`
            decoupled: each step multiplies the weights by `1 - lr * weight_decay`.
        l1: added to the gradient as `l1 * sign(weight)`, which pulls each weight towards 0 with
            the same force, however small it is.
        norm_bias_lr: factor on the rate of the biases of batch normalisation; 64 makes short runs
            shorter (Page, 2019, in Jordan, 2024, section 3.4).
    """

    lr: Rate
    weight_decay: Decay = 0.0
    l1: Decay = 0.0
    norm_bias_lr: Rate = 1.0

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of the parameters of `model`."""
        groups = decay_groups(model, self.weight_decay, bool(self.l1), self.norm_bias_lr)
        optimizer = self._make(groups, Light)
        if self.l1:
            optimizer.register_step_pre_hook(self._add_l1)
        return optimizer

    def _make(self, groups: Groups, optim: type[Light]) -> torch.optim.Optimizer:
        raise NotImplementedError

    def _add_l1(self, optimizer: torch.optim.Optimizer, args: Any, options: Any) -> None:
        """Add the gradient of `l1 * sum(abs(weight))`, in the place where weight decay is added."""
        for group in optimizer.param_groups:
            weights: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if group["penalised"] and weights:
                with torch.no_grad():
                    torch._foreach_add_(
                        [p.grad for p in weights if p.grad is not None],
                        torch._foreach_sign([p.detach() for p in weights]),
                        alpha=self.l1,
                    )


class SGD(Optimizing, frozen=True, tag_field="name", tag="sgd"):
    """Stochastic gradient descent, with momentum if it is above 0."""

    lr: Rate = 0.05
    momentum: Share = 0.9
    nesterov: bool = True
    weight_decay: Decay = 5e-4

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0: set `nesterov = false` too")

    def _make(self, groups: Groups, optim: type[Light]) -> torch.optim.Optimizer:
        return optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=True
        )


class Adagrad(Optimizing, frozen=True, tag_field="name", tag="adagrad"):
    """Adagrad (Duchi et al., 2011): each weight's rate falls with its gradients so far."""

    lr: Rate = 0.01
    eps: Rate = 1e-10

    def _make(self, groups: Groups, optim: type[Light]) -> torch.optim.Optimizer:
        return optim.Adagrad(groups, lr=self.lr, eps=self.eps, fused=True)


class RMSprop(Optimizing, frozen=True, tag_field="name", tag="rmsprop"):
    """RMSprop (Tieleman and Hinton, 2012). No bias correction: the first step is 10 lr long.

    Args:
        alpha: decay of the mean of squared gradients per step, in [0, 1).
        eps: added to its root.
        momentum: of the steps, in [0, 1).
    """

    lr: Rate = 0.01
    alpha: Share = 0.99
    eps: Rate = 1e-8
    momentum: Share = 0.0

    def _make(self, groups: Groups, optim: type[Light]) -> torch.optim.Optimizer:
        return optim.RMSprop(
            groups, lr=self.lr, alpha=self.alpha, eps=self.eps, momentum=self.momentum
        )


class Adam(Optimizing, frozen=True, tag_field="name", tag="adam"):
    """Adam (Kingma and Ba, 2015); `weight_decay` is added to the gradient."""

    lr: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Rate = 1e-8

    def _make(self, groups: Groups, optim: type[Light]) -> torch.optim.Optimizer:
        return optim.Adam(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


class AdamW(Optimizing, frozen=True, tag_field="name", tag="adamw"):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    lr: Rate = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Rate = 1e-8
    weight_decay: Decay = 0.01

    def _make(self, groups: Groups, optim: type[Light]) -> torch.optim.Optimizer:
        return optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


class Muon(Optimizing, frozen=True, tag_field="name", tag="muon"):
    """Muon (Jordan, 2024) for convolutions and matrices, AdamW for the rest, at one rate.

    The momentum of a weight is made orthogonal before the step; its length is that which AdamW's
    steps would have (Liu et al., 2025), so that rates carry over from AdamW.

    Args:
        momentum: in [0, 1), Nesterov's.
        betas: of AdamW.
        eps: of AdamW.
    """

    lr: Rate = 2e-3
    momentum: Share = 0.95
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Rate = 1e-8
    weight_decay: Decay = 0.01

    def _make(self, groups: Groups, optim: type[Light]) -> torch.optim.Optimizer:
        return MuonAdamW(groups, lr=self.lr, momentum=self.momentum, betas=self.betas, eps=self.eps)
