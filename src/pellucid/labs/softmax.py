"""Logits, softmax and argmax: what a score means, its gradient, and how an answer is read off."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.errors import UserError
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, equals, is_true

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Logits = tuple[Annotated[float, ranged("logit", -100, 100)], ...]
SCORES = (-1.2, 0.3, 0.8, -0.5, 1.1, 0.0, 3.5, -2.0, 0.6, 1.9)
BATCH = torch.tensor([
    SCORES,
    (0.4, 2.8, -1.0, 0.2, 1.7, -0.3, 0.9, 0.1, -2.2, 1.0),
    (1.5, -0.7, 3.2, 0.8, -1.4, 2.9, 0.0, 0.6, 1.1, -0.2),
], dtype=torch.float64)  # fmt: skip
"""Three images, ten scores each."""


@lab
def run(
    *,
    logits: Annotated[Logits, about("two or more, one for each class")] = (2.0, 1.0, 0.1),
    label: Annotated[int, ranged("number of the right class", 0, 99)] = 0,
    temperature: Annotated[float, ranged("the logits are divided by it", 0.05, 20)] = 1.0,
) -> LabResult:
    """Turn logits into probabilities, find the gradient, and take the largest."""
    if not (len(logits) >= 2 and label < len(logits)):
        raise UserError(
            f"--label must be the number of a class, 0 to {len(logits) - 1}, and --logits two "
            f"numbers or more. Got label {label} and {len(logits)} logits."
        )
    z = torch.tensor(logits, dtype=torch.float64) / temperature
    p = softmax(z)
    y = F.one_hot(torch.tensor(label), len(z)).double()
    best = int(z.argmax())
    second = float(z.topk(2).values[1])
    text = f"""
        Logits are scores, any numbers. Softmax makes them positive and divides by their sum:

            p_i = e^z_i / sum_j e^z_j       here p = {_short(p)}

        Only differences count: add 5 to every logit, and nothing changes. The ratio of two
        probabilities is e to the difference of their logits; the first leads the second by
        {float(z[best]) - second:.4g}, so it is {float((z[best] - second).exp()):.4g} times as
        likely. So a logit by itself says nothing, not even its sign, and the probabilities are the
        model's own scores: whether they are right so often, only counting shows.

        The loss of label {label} is -ln p[{label}] = ln sum e^z - z[{label}] =
        {-float(p[label].log()):.5g}. The slope of ln sum e^z by z_i is p_i, and that of z[{label}]
        is 1 for i = {label} and 0 elsewhere, so

            dL/dz = p - y = {_short(p - y)}

        It sums to 0: what the right class gains, the others lose. argmax is the place of the
        largest, here class {best}; max is its value. Softmax keeps the order, so argmax needs none.
        argmax has no gradient: it stays the same when a logit moves a little, and then jumps.
    """
    rows = [(i, float(z[i]), float(p[i]), float(y[i]), float(p[i] - y[i])) for i in range(len(z))]
    claims = [*_here(z, p, label), *_small(), *_argmax(), *_ties()]
    return LabResult(
        text, claims, partial(_draw, z, label),
        [Table(("class", "logit", "p", "y", "dL/dz"), rows)],
        {"p": p.tolist(), "gradient": (p - y).tolist(), "argmax": best},
    )  # fmt: skip


def softmax(z: Tensor) -> Tensor:
    """Return the probabilities of the logits `z` (C,)."""
    e = (z - z.max()).exp()
    return e / e.sum()


def _short(values: Tensor) -> str:
    texts = [f"{v:.4g}" for v in values.tolist()]
    return f"({', '.join(texts[:6])}{', ...' if len(texts) > 6 else ''})"


def _here(z: Tensor, p: Tensor, label: int) -> list[Claim]:
    leaf = z.clone().requires_grad_()
    F.cross_entropy(leaf[None], torch.tensor([label])).backward()
    assert leaf.grad is not None
    y = F.one_hot(torch.tensor(label), len(z)).double()
    jacobian = torch.autograd.functional.jacobian(lambda v: v.softmax(0), z)
    return [
        agrees("Our softmax is PyTorch's", p, z.softmax(0), 1e-12),
        agrees("The gradient of the cross-entropy is p - y", p - y, leaf.grad, 1e-12, "T4.16"),
        agrees("The Jacobian of softmax is diag(p) - p p^T", torch.diag(p) - torch.outer(p, p),
               jacobian, 1e-12, "T4.16"),
        equals("The gradient sums to 0", float(leaf.grad.sum()), 0, 1e-12),
        agrees("The same constant on all logits changes nothing", softmax(z + 5), p, 1e-12,
               "T5.17"),
        is_true("argmax is the same before and after softmax", z.argmax() == p.argmax(), "T8.13"),
    ]  # fmt: skip


def _small() -> list[Claim]:
    pair = torch.tensor([0.3, -1.1], dtype=torch.float64)
    lonely = torch.tensor([-1.0] + 9 * [-9.0], dtype=torch.float64)
    close = softmax(torch.tensor([0.1, 0.0], dtype=torch.float64))
    return [
        equals("-1 beside nine times -9 gives 99.7 %", float(softmax(lonely)[0]), 0.997, 5e-4,
               "T5.18"),
        equals("Two classes: softmax is the sigmoid of the difference", float(softmax(pair)[0]),
               float(torch.sigmoid(pair[0] - pair[1])), 1e-12, "T5.19"),
        equals("A lead of 0.1 gives 52.5 %", float(close[0]), 0.525, 5e-4, "T5.20"),
        equals("which is e^0.1 times the other", float(close[0] / close[1]),
               math.exp(0.1), 1e-12, "T5.20"),
    ]  # fmt: skip


def _argmax() -> list[Claim]:
    one = torch.tensor([0.2, 0.3, 0.5])
    values, places = BATCH.max(1)
    labels = torch.tensor([6, 1, 5])
    right = (BATCH.argmax(1) == labels).double().mean()
    leaf = BATCH.clone().requires_grad_()
    return [
        equals("argmax of (0.2, 0.3, 0.5) is 2", float(one.argmax()), 2, 0),
        equals("argmax over ten scores is 6", float(torch.tensor(SCORES).argmax()), 6, 0),
        is_true("argmax over a batch, dim 1, is [6, 1, 2]", places.tolist() == [6, 1, 2], "T8.12"),
        is_true("max(dim 1) gives the values 3.5, 2.8, 3.2 beside", values.tolist() ==
                [3.5, 2.8, 3.2], "T8.12"),
        equals("Without dim the batch is one long list, and argmax counts along it",
               float(BATCH.argmax()), 6, 0, "T8.12"),
        equals("max without dim is one value", float(BATCH.max()), 3.5, 0, "T8.12"),
        equals("Accuracy: two of three labels are the argmax", float(right), 2 / 3, 1e-12),
        is_true("argmax has no gradient", leaf.argmax(1).grad_fn is None, "T8.12"),
    ]  # fmt: skip


def _ties() -> list[Claim]:
    """Return where the gradient goes when two are the largest."""

    def gradient(largest: Tensor, z: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(largest.sum(), z)
        return slope

    z = torch.tensor([1.0, 4.0, 4.0, 0.0], dtype=torch.float64, requires_grad=True)
    value, place = z.max(0)
    alone = F.one_hot(place, 4).double()
    shared = torch.tensor([0, 0.5, 0.5, 0], dtype=torch.float64)
    return [
        agrees("A tie: max(dim) hands its gradient to the one that it returns",
               gradient(value, z), alone, 0, "T8.12"),
        agrees("max() of all shares it equally", gradient(z.max(), z), shared, 1e-12),
        agrees("and so does amax", gradient(z.amax(0), z), shared, 1e-12),
        equals("argmax returns the first of them here", float(z.argmax()), 1, 0),
    ]  # fmt: skip


def _draw(z: Tensor, label: int) -> Figure:
    from pellucid.labs.drawing import BLUE, COLOURS, GREEN, RED, finish, sheet

    p = softmax(z)
    figure, (bars, slope, move) = sheet("From logits to probabilities to a gradient", 3,
                                        size=(14, 4.4))  # fmt: skip
    places = list(range(len(z)))
    bars.bar([i - 0.2 for i in places], z.tolist(), 0.4, color=BLUE, label="logit")
    bars.bar([i + 0.2 for i in places], p.tolist(), 0.4, color=GREEN, label="probability")
    bars.axhline(0, color="black", linewidth=0.8)
    finish(bars, f"argmax: class {int(z.argmax())}", "class", "logit, probability", legend=True)
    y = F.one_hot(torch.tensor(label), len(z))
    slope.bar(places, (p - y).tolist(), color=[RED if i == label else BLUE for i in range(len(z))])
    slope.axhline(0, color="black", linewidth=0.8)
    finish(slope, f"gradient p - y, label {label}", "class", "dL/dz")
    for axis in (bars, slope):
        axis.set_xticks(places)
    shift = torch.linspace(-6, 6, 200, dtype=torch.float64)
    moved = z.repeat(200, 1)
    moved[:, label] += shift
    course = moved.softmax(1)
    for i, colour in zip(range(len(z)), COLOURS, strict=False):
        move.plot(shift, course[:, i], color=colour, label=f"class {i}")
    finish(move, f"the logit of class {label} moves", "added to it", "probability", legend=True)
    return figure
