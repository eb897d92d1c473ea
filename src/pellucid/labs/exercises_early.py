"""Exercises of lessons 1 to 5: from tensors to one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.labs.exercise import Case, Exercise, normal, vector


def _linear() -> Iterator[Case]:
    yield vector(2.0)[None], vector(3.0)[None], vector(1.0)
    for key, (n, i, o) in enumerate(((1, 2, 1), (2, 2, 3), (5, 4, 3), (3, 3, 3))):
        yield normal(key, n, i), normal(key + 9, o, i), normal(key + 20, o)


def _numbers() -> Iterator[Case]:
    yield (vector(0.0),)
    yield (vector(-1.0, 1.0),)
    yield (normal(0, 3, 4),)
    yield (vector(-50.0, 50.0),)
    yield (vector(-1000.0, 1000.0),)


def _logits() -> Iterator[Case]:
    yield (vector(0.0, 0.0)[None],)
    yield (vector(2.0, 1.0, 0.1)[None],)
    yield (normal(0, 4, 3),)
    yield (normal(1, 3, 3),)
    yield (vector(1000.0, 0.0, -1000.0)[None],)


def _labelled() -> Iterator[Case]:
    for (z,) in _logits():
        yield z, torch.arange(len(z)) % z.shape[1]
    yield vector(1000.0, 0.0, -1000.0)[None], torch.tensor([2])


def _regression() -> Iterator[Case]:
    yield vector(1.0)[None], vector(1.0), vector(0.0)
    for key, (n, d) in enumerate(((2, 1), (4, 3), (3, 3))):
        yield normal(key, n, d), (torch.arange(n) % 2).double(), normal(key + 9, d)
    yield vector(1.0)[None], vector(0.0), vector(900.0)


def _errors() -> Iterator[Case]:
    yield vector(0.0), 1.0
    yield vector(0.5, 2.0), 1.0
    yield vector(-0.5, -2.0), 1.0
    yield vector(-4.0, -1.0, 1.0, 4.0), 2.5
    yield normal(0, 3, 3), 0.3


def _pairs() -> Iterator[Case]:
    yield vector(1.0, 0.0), vector(0.0, 1.0)
    yield vector(1.0, 0.0), vector(1.0, 0.0)
    yield vector(0.0, 1.0, 2.0), vector(1.0, 1.0, 1.0)
    yield vector(1.0, 2.0), vector(-2.0, -4.0)
    yield normal(0, 5), normal(1, 5)


def _curves() -> Iterator[Case]:
    yield (lambda x: x), 1.0
    yield (lambda x: x * x), 2.0
    yield (lambda x: x**3), -1.5
    yield (lambda x: 1 / (1 + x * x)), 0.7
    yield (lambda x: (1 + x * x) ** 0.5), -3.0


def _neurons() -> Iterator[Case]:
    yield 1.0, 1.0, 0.0, 0.0
    yield 2.0, 0.5, 0.1, 2.0
    yield -3.0, 1.5, -1.0, 4.0
    yield 0.0, 2.0, 1.0, 5.0


def _hidden() -> Iterator[Case]:
    yield vector(1.0)[None], vector(2.0)[None], vector(0.0)[None]
    for key, (n, o, h) in enumerate(((1, 2, 2), (2, 3, 4), (5, 2, 3), (3, 3, 3))):
        yield normal(key, n, o), normal(key + 9, o, h), normal(key + 20, n, h)


def _graphs() -> Iterator[Case]:
    yield ({"a": [], "b": [("a", 2.0)]},)
    yield ({"a": [], "b": [("a", 3.0), ("a", 3.0)]},)
    yield ({"a": [], "b": [("a", 2.0)], "c": [("b", 1.0), ("b", 1.0)]},)
    yield ({"a": [], "b": [], "c": [("a", 2.0)], "d": [("c", 3.0), ("b", 5.0)],
            "e": [("c", 7.0), ("d", -1.0)]},)  # fmt: skip


def _gradients(parts: dict[str, list[tuple[str, float]]]) -> dict[str, float]:
    grads = dict.fromkeys(parts, 0.0)
    grads[list(parts)[-1]] = 1.0
    for name in reversed(parts):
        for part, slope in parts[name]:
            grads[part] += slope * grads[name]
    return grads


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(a, b, dim=0)


def _logistic_gradient(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return x.T @ (torch.sigmoid(x @ w) - y) / len(y)


def _slope(f: Callable[[Any], Any], x: float) -> float:
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f(leaf), leaf)
    return float(slope)


EARLY: dict[str, Exercise] = {
    "linear": Exercise(
        "linear(x, weight, bias)",
        "Return the outputs (N, out) for x (N, in), weight (out, in).",
        lambda x, weight, bias: F.linear(x, weight, bias),
        _linear,
        (
            "What does each output do with each input?",
            "PyTorch stores weights as (out, in).",
            "A product of matrices needs (N, in) times (in, out): transpose the weight.",
        ),
    ),
    "activations": Exercise(
        "softplus(x)",
        "Return ln(1 + e^x) for each number of x, without overflow.",
        lambda x: F.softplus(x, threshold=500.0),
        _numbers,
        (
            "Try it at 1000: what is e^1000?",
            "softplus(x) = x + softplus(-x).",
            "Use max(x, 0) + log1p(e^-|x|).",
        ),
    ),
    "entropy": Exercise(
        "cross_entropy(z, labels)",
        "Return the mean loss of logits z (N, C) and labels (N,).",
        lambda z, labels: F.cross_entropy(z, labels),
        _labelled,
        (
            "The loss of one row is -ln of the probability of its label.",
            "Do not take the logarithm of a softmax: it may be 0.",
            "ln p = z - max - ln(sum of e^(z - max)); pick the label's, mean, minus.",
        ),
    ),
    "softmax": Exercise(
        "softmax(z)",
        "Return the probabilities of each row of the logits z (N, C).",
        lambda z: z.softmax(1),
        _logits,
        (
            "Does each row sum to 1?",
            "Try logits of 1000: what is e^1000?",
            "Take the largest of each row away first; it changes nothing else.",
        ),
    ),
    "logistic-regression": Exercise(
        "gradient(x, y, w)",
        "Return the gradient of the mean cross-entropy by w (D,); p = "
        "sigmoid(x w), x (N, D), y (N,) of 0 and 1.",
        _logistic_gradient,
        _regression,
        (
            "For one sample it is a number times its inputs.",
            "That number is p - y.",
            "The mean over the samples: divide by N, not by the number of weights.",
        ),
    ),
    "losses": Exercise(
        "huber(error, delta)",
        "Return e^2 / 2 up to delta, and its tangent beyond, for each e.",
        lambda error, delta: F.huber_loss(
            error, torch.zeros_like(error), reduction="none", delta=delta
        ),
        _errors,
        (
            "Errors may be below 0.",
            "Both pieces must meet at delta, with the same slope.",
            "Beyond: delta * (|e| - delta / 2).",
        ),
    ),
    "distances": Exercise(
        "cosine_distance(a, b)",
        "Return one minus the cosine of the angle between a and b (D,).",
        _cosine,
        _pairs,
        (
            "What is the distance of a vector from its double?",
            "Divide by both lengths.",
            "A length is the root of the sum of squares.",
        ),
    ),
    "gradient": Exercise(
        "slope(f, x)",
        "Return the slope of f at x to six digits, by calling f only.",
        _slope,
        _curves,
        (
            "Compare f a little to the right with f a little to the left.",
            "From both sides the error falls with h squared.",
            "(f(x + h) - f(x - h)) / (2 h), h about 1e-5.",
        ),
    ),
    "backprop-graph": Exercise(
        "gradients(parts)",
        "Return {name: slope of the last number by it}. parts holds for each number, in the order "
        "in which they were computed, the pairs of a part and the slope by it.",
        _gradients,
        _graphs,
        (
            "The slope of the last number by itself is 1; begin there.",
            "A number that is used twice gets a share from each use: add.",
            "Walk from the last to the first, so that each is complete before it hands on.",
        ),
    ),
    "chain-rule": Exercise(
        "by_weight(x, w, b, t)",
        "Return dL/dw of L = (y - t)^2 with y = w x + b.",
        lambda x, w, b, t: 2 * (w * x + b - t) * x,
        _neurons,
        (
            "Which two slopes lie on the way from w to L?",
            "dL/dy = 2 (y - t).",
            "dy/dw = x; multiply.",
        ),
    ),
    "delta-rule": Exercise(
        "hidden_delta(delta, weight, z)",
        "Return the deltas (N, H) of a tanh layer: delta (N, K) "
        "and weight (K, H) of the layer above, z (N, H) its own weighted inputs.",
        lambda delta, weight, z: (delta @ weight) * (1 - torch.tanh(z) ** 2),
        _hidden,
        (
            "Each hidden neuron collects from all neurons above.",
            "Through the same weights: D W.",
            "Times the slope of tanh at z: 1 - tanh(z)^2.",
        ),
    ),
}
