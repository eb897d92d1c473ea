"""Least squares with an L2 or an L1 penalty, for many penalties and data sets at once.

Hoerl and Kennard, Ridge regression (1970); Tibshirani, Regression shrinkage and selection via the
lasso (1996).
"""

from __future__ import annotations

import torch
from torch import Tensor


def gram(f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return F'F / n and F'y / n of centred columns: so the bias is free of any penalty."""
    f, y = f - f.mean(-2, keepdim=True), y - y.mean(-1, keepdim=True)
    n = f.shape[-2]
    return f.mT @ f / n, (f.mT @ y[..., None]).squeeze(-1) / n


def ridge(g: Tensor, c: Tensor, lambdas: tuple[float, ...]) -> Tensor:
    """Return the weights with the least squared error + lambda sum(w^2), (lambdas, ..., D)."""
    one = torch.eye(g.shape[-1], dtype=g.dtype)
    return torch.stack([torch.linalg.solve(g + lam * one, c[..., None]).squeeze(-1)
                        for lam in lambdas])  # fmt: skip


def shrink(w: Tensor, by: Tensor | float) -> Tensor:
    """Return `w` moved towards 0 by `by`, and stopped there."""
    return w.sign() * (w.abs() - by).clamp(min=0)


def lasso(g: Tensor, c: Tensor, lambdas: tuple[float, ...], sweeps: int = 400) -> Tensor:
    """Return the weights with the least squared error + lambda sum(|w|), one weight at a time.

    With all others fixed, the best value of one weight is a shrunken one: coordinate descent. It
    begins at L2's answer.
    """
    half = torch.tensor(lambdas, dtype=g.dtype).view(-1, *[1] * (c.dim() - 1)) / 2
    w = ridge(g, c, lambdas)
    for _ in range(sweeps):
        for j in range(g.shape[-1]):
            own = g[..., j, j]
            rest = c[..., j] - (w * g[..., j, :]).sum(-1) + own * w[..., j]
            w[..., j] = shrink(rest, half) / own
    return w
