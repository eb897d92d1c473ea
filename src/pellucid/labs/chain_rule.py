"""The chain rule, on one neuron and on a two-layer network: every factor of a gradient by name.

Each gradient is found three ways: by hand, by central differences, and by autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_most, equals, relative_error
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("W1", "b1", "W2", "b2")
INPUTS, CLASSES = 3, 4


@lab
def run(
    *,
    x: Annotated[float, ranged("input of the neuron", -10, 10)] = 2.0,
    w: Annotated[float, ranged("its weight", -10, 10)] = 0.5,
    b: Annotated[float, ranged("its bias", -10, 10)] = 0.1,
    t: Annotated[float, ranged("its target", -10, 10)] = 2.0,
    samples: Annotated[int, ranged("in the batch of the network", 1, 64)] = 8,
    hidden: Annotated[int, ranged("units of the network", 1, 64)] = 5,
    seed: Annotated[int, ranged("of inputs and weights", 0, 10**6)] = 0,
) -> LabResult:
    """Take gradients apart into factors, and compare them with differences and autograd."""
    y = w * x + b
    by_y = 2 * (y - t)
    inputs, labels, weights = _network(samples, hidden, seed)
    factors, ours = by_hand(inputs, labels, weights)
    leaves = [weight.clone().requires_grad_() for weight in weights]
    theirs = torch.autograd.grad(loss_of(inputs, labels, leaves), leaves)
    near = [
        _differences(partial(_with, inputs, labels, weights, i), w) for i, w in enumerate(weights)
    ]
    one = [float(value[0, 0]) for value in factors]  # of image 0: dL/dz2 ... of unit 0
    text = f"""
        One neuron. It computes y = w x + b = {w:g} * {x:g} + {b:g} = {y:.5g}, and its loss is
        L = (y - t)^2 = {(y - t) ** 2:.5g}. The chain rule multiplies the slopes on the way from w
        to L:

            dL/dw = dL/dy * dy/dw = 2 (y - t) * x = {by_y:.5g} * {x:g} = {by_y * x:.5g}

        Two layers. h = tanh(W1 x + b1), logits z = W2 h + b2, p = softmax(z), and the loss is the
        mean of -ln p[label] over {samples} samples. Softmax and cross-entropy together have a
        short slope, and each step back through a layer is one more factor:

            dL/dz  = (p - y) / N        y: 1 at the label, 0 elsewhere
            dL/dW2 = dL/dz * h          dL/db2 = dL/dz
            dL/dh  = W2 * dL/dz         all units above add up
            dL/da  = dL/dh * (1 - h^2)  a = W1 x + b1
            dL/dW1 = dL/da * x          dL/db1 = dL/da

        For sample 0, class 0, hidden unit 0 they are: dL/dz = {one[0]:.4g}, h = {one[1]:.4g},
        dL/dh = {one[2]:.4g}, 1 - h^2 = {one[3]:.4g}, dL/da = {one[4]:.4g}. The gradient of a weight
        adds this product up over the samples.

        Central differences (L(w + h) - L(w - h)) / 2h need no rule, and prove a gradient only if
        they are taken well: in float64, from both sides, judged by the relative error. The picture
        shows why: a large h bends away from the tangent, a small one drowns in rounding.
    """
    rows = [
        (f"{name}[0]", float(a.flatten()[0]), float(n.flatten()[0]), float(g.flatten()[0]),
         relative_error(a, g))
        for name, a, n, g in zip(NAMES, ours, near, theirs, strict=True)
    ]  # fmt: skip
    head = ("weight", "by hand", "differences", "autograd", "relative error, all")
    claims = [
        *_neuron(x, w, b, t),
        *(_same(name, a, g) for name, a, g in zip(NAMES, ours, theirs, strict=True)),
        at_most(
            "All gradients by hand are those of central differences (relative error)",
            relative_error(_flat(ours), _flat(near)), 1e-6, "T4.12",
        ),
        *_other_losses(inputs, labels),
    ]  # fmt: skip
    steps, errors = _sweep(inputs, labels, weights, ours[0])
    return LabResult(
        text, claims, partial(_draw, (x, w, b, t), steps, errors),
        [Table(head, rows, "Gradients of the network, first element of each")],
        {"neuron": by_y * x, "W1": ours[0].tolist(), "W2": ours[2].tolist()},
    )  # fmt: skip


def loss_of(inputs: Tensor, labels: Tensor, weights: list[Tensor]) -> Tensor:
    """Return the loss of the two-layer network, a mean over the samples."""
    w1, b1, w2, b2 = weights
    return F.cross_entropy(torch.tanh(inputs @ w1.T + b1) @ w2.T + b2, labels)


def by_hand(
    inputs: Tensor, labels: Tensor, weights: list[Tensor]
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Return the factors dL/dz, h, dL/dh, 1 - h^2, dL/da, and the gradient of each weight."""
    w1, b1, w2, b2 = weights
    h = torch.tanh(inputs @ w1.T + b1)
    p = (h @ w2.T + b2).softmax(1)
    by_z = (p - F.one_hot(labels, CLASSES)) / len(inputs)
    by_h = by_z @ w2
    slope = 1 - h**2
    by_a = by_h * slope
    return (by_z, h, by_h, slope, by_a), [by_a.T @ inputs, by_a.sum(0), by_z.T @ h, by_z.sum(0)]


def _network(samples: int, hidden: int, seed: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    draws = generator(seed, "lab")

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    inputs = normal(samples, INPUTS)
    labels = torch.randint(CLASSES, (samples,), generator=draws)
    return inputs, labels, [normal(hidden, INPUTS), normal(hidden), normal(CLASSES, hidden),
                            normal(CLASSES)]  # fmt: skip


def _with(
    inputs: Tensor, labels: Tensor, weights: list[Tensor], position: int, value: Tensor
) -> float:
    """Return the loss with one of the weights replaced."""
    return float(loss_of(inputs, labels, [*weights[:position], value, *weights[position + 1 :]]))


def _differences(
    f: Callable[[Tensor], float], at: Tensor, h: float = 1e-5, back: float = 1.0
) -> Tensor:
    """Return the differences of `f` at `at`, element by element: central with `back` 1."""
    slopes = torch.zeros_like(at)
    for i in range(at.numel()):
        high, low = at.clone(), at.clone()
        high.view(-1)[i] += h
        low.view(-1)[i] -= back * h
        slopes.view(-1)[i] = (f(high) - f(low)) / ((1 + back) * h)
    return slopes


def _neuron(x: float, w: float, b: float, t: float) -> list[Claim]:
    leaf = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    ((leaf * x + b) - t).square().backward()
    assert leaf.grad is not None
    by_hand = 2 * (w * x + b - t) * x
    return [equals("One neuron: 2 (y - t) x is autograd's dL/dw", by_hand, float(leaf.grad), 1e-9)]


def _same(name: str, ours: Tensor, theirs: Tensor) -> Claim:
    return agrees(f"{name}: the gradient by hand is that of autograd", ours, theirs, 1e-12)


def _other_losses(inputs: Tensor, labels: Tensor) -> list[Claim]:
    """Return what changes with the squared error and a sigmoid."""
    z = torch.linspace(-2, 3, len(labels) * 2, dtype=torch.float64).view(-1, 2).requires_grad_()
    s = torch.sigmoid(z)
    y = F.one_hot(labels % 2, 2).double()
    (mean,) = torch.autograd.grad(F.mse_loss(s, y), z, retain_graph=True)
    (half,) = torch.autograd.grad(0.5 * (s - y).square().sum(), s, retain_graph=True)
    s = s.detach()
    by_hand = 2 * (s - y) / s.numel() * s * (1 - s)
    return [
        agrees("Squared error and sigmoid: one factor more, s (1 - s)", by_hand, mean, 1e-12,
               "T4.16"),
        agrees("The textbook's half of the sum has the slope s - y", s - y, half, 1e-12, "T5.8"),
        equals("MSELoss divides by all elements, samples times outputs",
               float((s - y).square().sum() / F.mse_loss(s, y)), 2 * len(inputs), 1e-9, "T5.8"),
    ]  # fmt: skip


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _sweep(
    inputs: Tensor, labels: Tensor, weights: list[Tensor], right: Tensor
) -> tuple[list[float], dict[str, list[float]]]:
    """Return the relative error of differences of W1 over the step h, in three ways."""
    steps = [10 ** (-k / 2) for k in range(1, 25)]
    small = inputs.float(), labels, [weight.float() for weight in weights]
    errors: dict[str, list[float]] = {"central": [], "one-sided": [], "central, float32": []}
    for h in steps:
        f = partial(_with, inputs, labels, weights, 0)
        errors["central"].append(relative_error(_differences(f, weights[0], h), right))
        errors["one-sided"].append(relative_error(_differences(f, weights[0], h, 0.0), right))
        found = _differences(partial(_with, *small, 0), small[2][0], h).double()
        errors["central, float32"].append(relative_error(found, right))
    return steps, errors


def _draw(
    neuron: tuple[float, float, float, float], steps: list[float], errors: dict[str, list[float]]
) -> Figure:  # fmt: skip
    from pellucid.labs.drawing import BLUE, COLOURS, GREEN, RED, arrow, bare, box, finish, sheet

    x, w, b, t = neuron
    y = w * x + b
    figure, (graph, sweep) = sheet("The chain rule: factors, and how differences check them", 2,
                                   size=(11, 4.6))  # fmt: skip
    bare(graph, "one neuron: multiply the slopes on the way back")
    graph.set(xlim=(-0.6, 2.6), ylim=(-0.4, 1.4))
    weight = box(graph, 0, 1, f"w = {w:g}")
    output = box(graph, 1, 1, f"y = w x + b\n= {y:.4g}")
    loss = box(graph, 2, 1, f"L = (y - t)²\n= {(y - t) ** 2:.4g}")
    arrow(graph, box(graph, 0, 0.5, f"x = {x:g}", GREEN), output)
    arrow(graph, box(graph, 0, 0, f"b = {b:g}", GREEN), output)
    arrow(graph, box(graph, 1, 0, f"t = {t:g}", GREEN), loss)
    arrow(graph, weight, output, f"{x:g}", RED)
    arrow(graph, output, loss, f"{2 * (y - t):.3g}", RED)
    graph.text(1, -0.33, f"dL/dw = {2 * (y - t):.4g} · {x:g} = {2 * (y - t) * x:.4g}",
               ha="center", color=RED)  # fmt: skip
    for (name, error), colour in zip(errors.items(), (BLUE, RED, COLOURS[3]), strict=True):
        sweep.loglog(steps, [max(e, 1e-16) for e in error], color=colour, marker=".", label=name)
    sweep.axhline(1e-6, color=GREEN, linestyle="--", label="our limit, at h = 1e-5")
    sweep.invert_xaxis()
    finish(sweep, "relative error of differences, W1", "h", "relative error", legend=True)
    return figure
