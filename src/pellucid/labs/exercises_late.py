"""Exercises of lessons 6 to 13: from optimizers to generalisation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pellucid.labs.exercise import Case, Exercise, normal, vector
from pellucid.optim.schedules import OneCycle


def _steps() -> Iterator[Case]:
    yield vector(1.0), vector(0.0), vector(2.0), 0.1, 0.0
    yield vector(1.0), vector(0.0), vector(2.0), 0.1, 0.9
    yield vector(1.0), vector(3.0), vector(2.0), 0.1, 0.9
    yield normal(0, 3, 2), normal(1, 3, 2), normal(2, 3, 2), 0.01, 0.5


def _momentum_step(w: Tensor, v: Tensor, g: Tensor, lr: float, momentum: float) -> Case:
    v = momentum * v + g
    return w - lr * v, v


def _curvatures() -> Iterator[Case]:
    yield 1.0, 0.0
    yield 20.0, 0.0
    yield 20.0, 0.9
    yield 133.8, 0.5


def _layers() -> Iterator[Case]:
    yield (1, 1, 1)
    yield (1, 32, 3)
    yield (3, 16, 5)
    yield (64, 10, 1)


def _he_std(inputs: int, outputs: int, kernel: int) -> float:
    del outputs
    return math.sqrt(2 / (inputs * kernel * kernel))


def _clouds() -> Iterator[Case]:
    yield 1.0, 1.0, 1.0
    yield 1.0, 1.0, 0.5
    yield 1.0, 0.25, 0.1
    yield 4.0, 2.0, 0.1
    yield 4.0, 2.0, 0.45


def _stationary(curvature: float, noise: float, lr: float) -> float:
    return lr * noise / (curvature * (2 - lr * curvature))


def _cycles() -> Iterator[Case]:
    yield 0, 10, 1.0
    yield 2, 10, 1.0
    yield 1, 10, 1.0
    yield 9, 10, 1.0
    yield 5, 10, 1.0
    yield 30, 100, 0.3
    yield 64, 100, 0.3


def _one_cycle(step: int, steps: int, lr: float) -> float:
    return OneCycle().build(lr, steps, 1)(step)


def _gradients() -> Iterator[Case]:
    yield vector(1.0, 3.0)[:, None], 1
    yield vector(1.0, 3.0)[:, None], 2
    yield vector(0.0, 0.0, 3.0)[:, None], 2
    yield vector(2.0, 2.0, 2.0)[:, None], 1
    yield normal(0, 4, 2), 2
    yield normal(1, 6, 3), 4


def _batch_noise(gradients: Tensor, size: int) -> float:
    n = len(gradients)
    spread = (gradients - gradients.mean(0)).square().sum(1).mean()
    return float(spread) / size * (n - size) / (n - 1)


def _weights() -> Iterator[Case]:
    yield vector(0.0), 0.5
    yield vector(2.0), 0.5
    yield vector(-2.0), 0.5
    yield vector(0.25, -0.25, 0.5), 0.5
    yield normal(0, 3, 4), 0.7
    yield normal(1, 5), 0.0


def _shrink(w: Tensor, by: float) -> Tensor:
    return w.sign() * (w.abs() - by).clamp(min=0) + 0.0  # no -0.0 is shown


def _pictures() -> Iterator[Case]:
    yield vector(1.0, 2.0)[None, None, None], torch.tensor([True])
    yield vector(1.0, 2.0)[None, None, None], torch.tensor([False])
    yield torch.arange(8.0).double().view(2, 1, 2, 2), torch.tensor([False, True])
    yield normal(0, 3, 3, 3, 3), torch.tensor([True, False, True])
    yield normal(1, 2, 1, 2, 5), torch.tensor([True, True])
    yield normal(2, 2, 3, 4, 2), torch.tensor([False, False])


def _mirrored(images: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def _losses() -> Iterator[Case]:
    yield [0.5], 1
    yield [0.5, 0.6, 0.4], 1
    yield [0.5, 0.6, 0.7, 0.4], 2
    yield [0.5, 0.5, 0.5, 0.4], 2
    yield [0.5, 0.6, 0.4, 0.6, 0.3], 2
    yield [0.9, 0.5, 0.8, 0.7, 0.6, 0.4], 3
    yield [0.9, 0.7, 0.8, 0.6, 0.8, 0.7, 0.65, 0.64, 0.5], 4
    yield [1.0, 0.9, 0.8, 0.7], 3


def _stopped(losses: list[float], patience: int) -> Case:
    kept = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[kept]:
            kept = epoch
        if epoch - kept == patience:
            return epoch + 1, kept + 1
    return len(losses), kept + 1


LATE: dict[str, Exercise] = {
    "optimizers": Exercise(
        "step(w, v, g, lr, momentum)",
        "Return the new w and the new v of one step of momentum, as PyTorch does it.",
        _momentum_step,
        _steps,
        (
            "The speed comes first, then the step.",
            "PyTorch does not damp: v = momentum v + g.",
            "w - lr * (the new v).",
        ),
    ),
    "stability": Exercise(
        "largest_lr(curvature, momentum)",
        "Return the rate above which the heavy ball leaves a minimum.",
        lambda curvature, momentum: 2 * (1 + momentum) / curvature,
        _curvatures,
        (
            "Without momentum the distance is multiplied by 1 - lr * curvature.",
            "That shrinks while its size is below 1: lr < 2 / curvature.",
            "Momentum allows 1 + momentum times as much.",
        ),
    ),
    "depth": Exercise(
        "he_std(inputs, outputs, kernel)",
        "Return the standard deviation of He's normal weights for a convolution.",
        _he_std,
        _layers,
        (
            "How many products does one output add up?",
            "fan-in = inputs * kernel * kernel.",
            "The variance is 2 / fan-in; its root is asked for.",
        ),
    ),
    "sgd-noise": Exercise(
        "stationary(curvature, noise, lr)",
        "Return the variance that SGD's weight settles at: each step is w - lr * (curvature * w + "
        "an error), errors are independent and have the variance noise.",
        _stationary,
        _clouds,
        (
            "A step makes w to (1 - lr curvature) w - lr error. What does it make of a variance?",
            "v becomes (1 - lr curvature)^2 v + lr^2 noise; at rest both are the same v.",
            "lr noise / (curvature (2 - lr curvature)), not lr noise / (2 curvature).",
        ),
    ),
    "schedule-guide": Exercise(
        "one_cycle(step, steps, lr)",
        "Return the rate of a step, counted from 0: it rises on half a cosine from lr / 25 at step "
        "0 to lr at step 0.3 * steps - 1, and falls on another to lr / 250000 at step steps - 1.",
        _one_cycle,
        _cycles,
        (
            "Which share of its half of the way has the step gone?",
            "Half a cosine from a to b at share s: b + (a - b) (1 + cos(pi s)) / 2.",
            "s is step / top up to top = 0.3 steps - 1, then (step - top) / (steps - 1 - top).",
        ),
    ),
    "batch-size": Exercise(
        "noise(gradients, size)",
        "Return the mean of |g_B - g|^2 over all batches of so many different samples: g_B is the "
        "mean gradient of a batch, g that of all; gradients is (N, D), a row for each sample.",
        _batch_noise,
        _gradients,
        (
            "How far off is a batch of all N samples?",
            "S / size is right where a sample may be drawn twice; S = mean of |g_i - g|^2.",
            "Without putting back it is S / size * (N - size) / (N - 1), S with 1 / N.",
        ),
    ),
    "regularization": Exercise(
        "shrink(w, by)",
        "Return the weights after the step of an L1 penalty: each moved towards 0 by `by`, and "
        "stopped there.",
        _shrink,
        _weights,
        (
            "A weight that is nearer to 0 than `by` ends at exactly 0.",
            "What is below 0 moves up, what is above moves down.",
            "sign(w) * max(|w| - by, 0).",
        ),
    ),
    "augmentation": Exercise(
        "mirrored(images, chosen)",
        "Return images (N, C, H, W) of which those with True in chosen (N,) are mirrored, left to "
        "right; the others stay as they are.",
        _mirrored,
        _pictures,
        (
            "Which axis goes from left to right?",
            "The last one, W, is turned round; H is from top to bottom.",
            "images.flip(3) where chosen[:, None, None, None], images elsewhere; a new tensor.",
        ),
    ),
    "early-stopping": Exercise(
        "stopped(losses, patience)",
        "Return two epochs, counted from 1: the last that is run, and the one whose weights are "
        "kept. A loss below all before it is a gain; the run ends with the patience-th epoch in a "
        "row without one, or when the losses end.",
        _stopped,
        _losses,
        (
            "Two memories: the best loss, and how many epochs ago it was.",
            "A loss that is as good as the best is no gain; a gain sets the count back to 0.",
            "Stop when the count is the patience, not one later; keep the epoch of the best loss.",
        ),
    ),
}
