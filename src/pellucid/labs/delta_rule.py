"""The delta rule of a network with one hidden layer: by neuron, in matrix form, and by autograd.

Rumelhart, Hinton and Williams (1986). Weights are (out, in), as PyTorch stores them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Activation = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
ACTIVATIONS: dict[str, Activation] = {  # f, and its slope as a function of z
    "sigmoid": (torch.sigmoid, lambda z: torch.sigmoid(z) * (1 - torch.sigmoid(z))),
    "tanh": (torch.tanh, lambda z: 1 - torch.tanh(z) ** 2),
    "relu": (torch.relu, lambda z: (z > 0).to(z.dtype)),
}


class Net(NamedTuple):
    """The weights: (hidden, inputs), (hidden,), (outputs, hidden), (outputs,)."""

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor


class Pass(NamedTuple):
    """What a forward pass leaves for the way back, a row for each sample."""

    z1: Tensor
    a1: Tensor
    z2: Tensor
    out: Tensor


@lab
def run(
    *,
    inputs: Annotated[int, ranged("of the network", 1, 16)] = 3,
    hidden: Annotated[int, ranged("neurons", 1, 16)] = 4,
    outputs: Annotated[int, ranged("neurons", 2, 8)] = 2,
    samples: Annotated[int, ranged("in the batch", 1, 32)] = 5,
    activation: Annotated[
        Literal["sigmoid", "tanh", "relu"], about("of the hidden neurons")
    ] = "tanh",
    loss: Annotated[
        Literal["squared", "cross-entropy"],
        about("squared: half the sum after a sigmoid; cross-entropy: after softmax"),
    ] = "squared",
    lr: Annotated[float, ranged("of one step of the rule", 1e-6, 1)] = 0.01,
    seed: Annotated[int, ranged("of inputs and weights", 0, 10**6)] = 0,
) -> LabResult:
    """Compute the deltas of each neuron, the gradients of each weight, and take one step."""
    draws = generator(seed, "lab")
    x = torch.randn(samples, inputs, generator=draws, dtype=torch.float64)
    y = F.one_hot(torch.randint(outputs, (samples,), generator=draws), outputs).double()
    shapes = ((hidden, inputs), (hidden,), (outputs, hidden), (outputs,))
    net = Net(*(torch.randn(*s, generator=draws, dtype=torch.float64) for s in shapes))
    done = forward(net, x, activation, loss)
    deltas, matrix = by_matrix(net, x, y, done, activation, loss)
    neuron = by_neuron(net, x, y, done, activation, loss)
    leaves = Net(*(weight.clone().requires_grad_() for weight in net))
    value = loss_of(forward(leaves, x, activation, loss), y, loss)
    theirs = torch.autograd.grad(value, list(leaves))

    after = Net(*(w - lr * g for w, g in zip(net, matrix, strict=True)))
    fall = float(value.detach() - loss_of(forward(after, x, activation, loss), y, loss))
    squared = sum(float(g.square().sum()) for g in matrix)
    d2, d1 = deltas
    slope = float(ACTIVATIONS[activation][1](done.z1)[0, 0])
    text = f"""
        The delta of a neuron is the slope of the loss by its weighted input z. Here the loss is
        {"1/2 sum (out - y)^2 after a sigmoid" if loss == "squared" else "cross-entropy"}, summed
        over {samples} samples. At the output it is known at once, in the layer below it comes from
        the deltas above, sent back through the same weights:

            output k:  delta_k = {_rule(loss)}
            hidden j:  delta_j = f'(z_j) * sum over k of W2[k, j] delta_k
            weights:   dL/dW[j, i] = delta_j * a_i       dL/db[j] = delta_j

        Sample 0, output 0: out = {float(done.out[0, 0]):.4g}, y = {float(y[0, 0]):g}, so
        delta = {float(d2[0, 0]):.4g}. Hidden neuron 0: the outputs send back
        {float((d2[0] * net.w2[:, 0]).sum()):.4g}, its slope is {slope:.4g}, so
        delta = {float(d1[0, 0]):.4g}, and the weight from input 0 ({float(x[0, 0]):.4g}) gets
        {float(d1[0, 0]):.4g} * {float(x[0, 0]):.4g} = {float(d1[0, 0] * x[0, 0]):.4g} from it.

        With a row for each sample, all of it is four products of matrices:

            D2 = (output deltas)         dW2 = D2^T A1    db2 = column sums of D2
            D1 = (D2 W2) * f'(Z1)        dW1 = D1^T X     db1 = column sums of D1

        The rule "loss gradient times f'" holds where f works on each number by itself. Softmax
        does not: there the whole Jacobian is needed, and with cross-entropy it comes to out - y.

        A step of -lr times the gradient lowers the loss by {fall:.4g}; the slope promises
        lr * |gradient|^2 = {lr * squared:.4g}.
    """
    claims = [
        *_agreement(matrix, neuron, theirs),
        _by_differences(net, x, y, activation, loss, matrix),
        at_most("A tiny step lowers the loss by what the slope promises (relative error)",
                _promise(net, matrix, squared, x, y, activation, loss), 1e-3),
        *_softmax(),
    ]  # fmt: skip
    rows = [
        *(("hidden", j, *_row(done.z1, done.a1, d1, j)) for j in range(hidden)),
        *(("output", k, *_row(done.z2, done.out, d2, k)) for k in range(outputs)),
    ]
    return LabResult(
        text, claims, partial(_draw, x, net, done, deltas, matrix),
        [Table(("layer", "neuron", "z", "a", "delta"), rows, "Sample 0")],
        {"loss": float(value.detach()), "fall": fall, "delta_output": d2.tolist(),
         "delta_hidden": d1.tolist()},
    )  # fmt: skip


def forward(net: Net, x: Tensor, activation: str, loss: str) -> Pass:
    """Return the weighted inputs and outputs of both layers, a row for each sample."""
    z1 = x @ net.w1.T + net.b1
    a1 = ACTIVATIONS[activation][0](z1)
    z2 = a1 @ net.w2.T + net.b2
    return Pass(z1, a1, z2, torch.sigmoid(z2) if loss == "squared" else z2.softmax(1))


def loss_of(done: Pass, y: Tensor, loss: str) -> Tensor:
    """Return the loss, summed over the samples."""
    if loss == "squared":
        return 0.5 * (done.out - y).square().sum()
    return -(y * done.z2.log_softmax(1)).sum()


def by_matrix(
    net: Net, x: Tensor, y: Tensor, done: Pass, activation: str, loss: str
) -> tuple[tuple[Tensor, Tensor], Net]:
    """Return the deltas of both layers and the gradients, a row for each sample."""
    d2 = done.out - y
    if loss == "squared":
        d2 = d2 * done.out * (1 - done.out)
    d1 = (d2 @ net.w2) * ACTIVATIONS[activation][1](done.z1)
    return (d2, d1), Net(d1.T @ x, d1.sum(0), d2.T @ done.a1, d2.sum(0))


def by_neuron(net: Net, x: Tensor, y: Tensor, done: Pass, activation: str, loss: str) -> Net:
    """Return the same gradients, neuron by neuron and sample by sample, as the rule is written."""
    grads = Net(*(torch.zeros_like(weight) for weight in net))
    for n in range(len(x)):
        deltas = []
        for k, out in enumerate(done.out[n]):
            error = out - y[n, k]
            deltas.append(error * out * (1 - out) if loss == "squared" else error)
            for j, a in enumerate(done.a1[n]):
                grads.w2[k, j] += deltas[k] * a
            grads.b2[k] += deltas[k]
        for j, z in enumerate(done.z1[n]):
            back = sum(net.w2[k, j] * delta for k, delta in enumerate(deltas))
            delta = back * ACTIVATIONS[activation][1](z)
            for i, value in enumerate(x[n]):
                grads.w1[j, i] += delta * value
            grads.b1[j] += delta
    return grads


def _rule(loss: str) -> str:
    return "(out_k - y_k) * out_k (1 - out_k)" if loss == "squared" else "out_k - y_k"


def _agreement(matrix: Net, neuron: Net, theirs: tuple[Tensor, ...]) -> list[Claim]:
    claims = []
    for name, ours, single, other in zip(Net._fields, matrix, neuron, theirs, strict=True):
        name = name.upper() if name.startswith("w") else name
        claims += [
            agrees(f"{name}: by matrix as by autograd", ours, other, 1e-11, "T4.17"),
            agrees(f"{name}: neuron by neuron as by matrix", single, ours, 1e-11),
        ]
    return claims


def _by_differences(
    net: Net, x: Tensor, y: Tensor, activation: str, loss: str, matrix: Net
) -> Claim:
    """Move all weights along the gradient, a little to both sides: no rule and no graph in it."""
    size = sum(float(g.square().sum()) for g in matrix) ** 0.5
    h = 1e-5

    def at(step: float) -> float:
        moved = Net(*(w + step * g / max(size, 1e-300) for w, g in zip(net, matrix, strict=True)))
        return float(loss_of(forward(moved, x, activation, loss), y, loss))

    found = (at(h) - at(-h)) / (2 * h)
    return equals("The slope along the gradient, by differences, is its length", found, size,
                  1e-6 * max(size, 1.0))  # fmt: skip


def _promise(
    net: Net, grads: Net, squared: float, x: Tensor, y: Tensor, activation: str, loss: str
) -> float:
    lr = 1e-5 / max(squared, 1.0)
    after = Net(*(w - lr * g for w, g in zip(net, grads, strict=True)))
    before, then = (float(loss_of(forward(n, x, activation, loss), y, loss)) for n in (net, after))
    return abs((before - then) / (lr * squared) - 1)


def _softmax() -> list[Claim]:
    """Return what the rule with f' alone misses where the outputs depend on one another."""
    z = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    p = z.softmax(0)
    (right,) = torch.autograd.grad((p - y).square().sum(), z, retain_graph=True)
    (short,) = torch.autograd.grad(-(y * z.log_softmax(0)).sum(), z)
    p = p.detach()
    jacobian = torch.diag(p) - torch.outer(p, p)
    alone = 2 * (p - y) * p * (1 - p)
    return [
        agrees("Softmax needs its whole Jacobian", jacobian @ (2 * (p - y)), right, 1e-12, "T4.16"),
        at_least("With its diagonal alone the delta is wrong by",
                 float((alone - right).abs().max()), 0.05, "T4.16"),
        agrees("With cross-entropy it all becomes out - y", p - y, short, 1e-12, "T4.16"),
    ]  # fmt: skip


def _row(z: Tensor, a: Tensor, delta: Tensor, i: int) -> tuple[float, float, float]:
    return float(z[0, i]), float(a[0, i]), float(delta[0, i])


def _draw(x: Tensor, net: Net, done: Pass, deltas: tuple[Tensor, Tensor], grads: Net) -> Figure:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    from pellucid.labs.drawing import bare, sheet

    figure, (axis,) = sheet("Delta rule: deltas of sample 0, gradients of the batch",
                            size=(9, 1.6 + 0.75 * max(len(net.b1), x.shape[1], 3)))  # fmt: skip
    bare(axis, "circles: value above, delta below; lines: dL/dW, thick where it is large")
    columns = [(x[0], None), (done.a1[0], deltas[1][0]), (done.out[0], deltas[0][0])]
    tall = max(len(values) for values, _ in columns)
    place = [[(i, (j - (len(v) - 1) / 2) * -1.0) for j in range(len(v))]
             for i, (v, _) in enumerate(columns)]  # fmt: skip
    largest = max(float(grads.w1.abs().max()), float(grads.w2.abs().max()), 1e-12)
    scale = ScalarMappable(Normalize(-largest, largest), "coolwarm")
    for left, grad in enumerate((grads.w1, grads.w2)):
        for k, row in enumerate(grad.tolist()):
            for j, value in enumerate(row):
                (x0, y0), (x1, y1) = place[left][j], place[left + 1][k]
                axis.plot([x0, x1], [y0, y1], color=scale.to_rgba(value), zorder=1,
                          linewidth=0.6 + 5 * abs(value) / largest)  # fmt: skip
    for spots, (values, delta) in zip(place, columns, strict=True):
        for j, (px, py) in enumerate(spots):
            label = f"{float(values[j]):.2g}" + (
                f"\n{float(delta[j]):.2g}" if delta is not None else ""
            )
            axis.scatter(px, py, s=1500, color="white", edgecolor="#444444", zorder=2)
            axis.text(px, py, label, ha="center", va="center", fontsize=8, zorder=3)
    for i, name in enumerate(("inputs", "hidden", "outputs")):
        axis.text(i, tall / 2 + 0.15, name, ha="center", fontsize=10)
    axis.set(xlim=(-0.4, 2.4), ylim=(-tall / 2 - 0.2, tall / 2 + 0.5))
    figure.colorbar(scale, ax=axis, label="dL/dW", shrink=0.8)
    return figure
