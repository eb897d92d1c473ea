"""Optimizers from scratch, ten lines each: a gradient and a start become an endless list of points.

Each is the rule of `torch.optim` with the same name and options. They work element by element,
so one call moves a whole grid of starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from torch import Tensor

Gradient = Callable[[Tensor], Tensor]
Path = Iterator[Tensor]


def sgd(
    gradient: Gradient, w: Tensor, *, lr: float, momentum: float = 0.0, dampening: float = 0.0,
    nesterov: bool = False, weight_decay: float = 0.0,
) -> Path:  # fmt: skip
    """Gradient descent; with momentum, the heavy ball of Polyak (1964), or Nesterov's (1983)."""
    v = None
    while True:
        g = gradient(w) + weight_decay * w
        if momentum:
            v = g if v is None else momentum * v + (1 - dampening) * g
            g = g + momentum * v if nesterov else v
        w = w - lr * g
        yield w


def adagrad(
    gradient: Gradient, w: Tensor, *, lr: float = 0.01, lr_decay: float = 0.0,
    initial_accumulator_value: float = 0.0, eps: float = 1e-10, weight_decay: float = 0.0,
) -> Path:  # fmt: skip
    """Divide by the root of the sum of all squared gradients; Duchi et al. (2011)."""
    total = initial_accumulator_value + 0 * w
    for t in count():
        g = gradient(w) + weight_decay * w
        total = total + g * g
        w = w - lr / (1 + t * lr_decay) * g / (total**0.5 + eps)
        yield w


def rmsprop(
    gradient: Gradient, w: Tensor, *, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8,
    momentum: float = 0.0, centered: bool = False, weight_decay: float = 0.0,
) -> Path:  # fmt: skip
    """Divide by the root of a running mean of squared gradients, not corrected at its start."""
    square = mean = step = 0 * w
    while True:
        g = gradient(w) + weight_decay * w
        square = alpha * square + (1 - alpha) * g * g
        mean = alpha * mean + (1 - alpha) * g if centered else mean
        step = momentum * step + g / ((square - mean * mean) ** 0.5 + eps)
        w = w - lr * step
        yield w


def adam(
    gradient: Gradient, w: Tensor, *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8, weight_decay: float = 0.0, amsgrad: bool = False, decoupled: bool = False,
) -> Path:  # fmt: skip
    """Running means of gradient and of its square, both corrected; Kingma and Ba (2015)."""
    m = v = largest = 0 * w
    for t in count(1):
        g = gradient(w) if decoupled else gradient(w) + weight_decay * w
        w = w - lr * weight_decay * w if decoupled else w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        largest = v.maximum(largest) if amsgrad else v
        root = (largest / (1 - betas[1] ** t)) ** 0.5
        w = w - lr * m / (1 - betas[0] ** t) / (root + eps)
        yield w


def adamw(
    gradient: Gradient, w: Tensor, *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8, weight_decay: float = 0.01, amsgrad: bool = False,
) -> Path:  # fmt: skip
    """Adam with a decay that does not pass through its divisor; Loshchilov and Hutter (2019)."""
    return adam(gradient, w, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                amsgrad=amsgrad, decoupled=True)  # fmt: skip
