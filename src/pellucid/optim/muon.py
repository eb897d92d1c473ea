"""`torch.optim.Muon` for weights of two or more dimensions, `torch.optim.AdamW` for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer made of two of PyTorch's.

    Muon takes matrices only, so a convolution's weight (O, I, h, w) is shown to it as the matrix
    (O, h w I): a view of the same memory in channels-last layout. The order of columns does not
    matter to it: the orthogonal factor of `G P` is that of `G`, times `P`.

    Args:
        groups: parameters with their `weight_decay`; weights and others may be in one group.
        lr: learning rate of both.
        momentum: of Muon.
        betas: of AdamW.
        eps: of AdamW.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        split = [
            {**group, "params": [p for p in group["params"] if (p.ndim > 1) == matrices]}
            for group in groups
            for matrices in (True, False)
        ]
        super().__init__([group for group in split if group["params"]], {"lr": lr})
        self._views: dict[Tensor, Tensor] = {}
        self._inner: list[torch.optim.Optimizer] = []  # one for each group
        for group in self.param_groups:
            decay = group["weight_decay"]
            inner: torch.optim.Optimizer
            if group["params"][0].ndim > 1:
                views = [self._views.setdefault(p, as_matrix(p)) for p in group["params"]]
                inner = torch.optim.Muon(
                    views, lr=lr, weight_decay=decay, momentum=momentum,
                    adjust_lr_fn="match_rms_adamw",
                )  # fmt: skip
            else:
                rest = group["params"]
                inner = torch.optim.AdamW(
                    rest, lr=lr, betas=betas, eps=eps, weight_decay=decay, fused=True
                )
            self._inner.append(inner)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step of both."""
        del closure  # as in the optimizers that are used here: the loop has its own backward
        for group, inner in zip(self.param_groups, self._inner, strict=True):
            inner.param_groups[0]["lr"] = group["lr"]
            for p in group["params"]:
                if p in self._views:
                    self._views[p].grad = None if p.grad is None else as_matrix(p.grad)
            inner.step()
            for p in group["params"]:
                view = self._views.get(p, p)
                if view is not p:
                    view.grad = None
                self.state[p] = inner.state[view]  # one and the same table: it is what is saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        super().load_state_dict(state_dict)
        for group, inner in zip(self.param_groups, self._inner, strict=True):
            for p in group["params"]:
                if p in self.state:
                    inner.state[self._views.get(p, p)] = self.state[p]


def as_matrix(weight: Tensor) -> Tensor:
    """Return a weight of two or more dimensions as a matrix; a view where its layout allows it.

    >>> as_matrix(torch.zeros(8, 3, 5, 5)).shape
    torch.Size([8, 75])
    """
    if weight.ndim == 4:
        weight = weight.permute(0, 2, 3, 1)
    return weight.detach().flatten(1)
