"""Losses: what each charges for an error, for a wrong class, and for a bad arrangement."""

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
from pellucid.labs.surfaces import gradient_of
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Logits = tuple[Annotated[float, ranged("logit", -50, 50)], ...]


@lab
def run(
    *,
    error: Annotated[float, ranged("prediction minus target", -10, 10)] = 2.0,
    delta: Annotated[float, ranged("where Huber turns from square to straight", 0.1, 10)] = 1.0,
    logits: Annotated[Logits, about("scores of the classes")] = (2.0, 0.5, -1.0),
    label: Annotated[int, ranged("the right class", 0, 99)] = 0,
    margin: Annotated[float, ranged("of the triplet loss", 0.01, 5)] = 1.0,
    temperature: Annotated[float, ranged("of InfoNCE", 0.01, 10)] = 0.1,
) -> LabResult:
    """Compute eight losses by hand, and compare them with PyTorch's."""
    if label >= len(logits):
        raise UserError(f"--label must be 0 to {len(logits) - 1}, a class. Got {label}.")
    e, z = torch.tensor([error], dtype=torch.float64), torch.tensor(logits, dtype=torch.float64)
    anchor, positive, others = _pictures()
    near, far = (float((anchor - p).norm()) for p in (positive, others[0]))
    triplet_loss = max(0.0, near - far + margin)
    contrast = info_nce(anchor, torch.cat([positive[None], others]), temperature)
    text = f"""
        For numbers. The prediction is off by {error:g}:

            squared error  e^2 = {error**2:.5g}, slope {2 * error:.4g}: large errors rule
            L1             |e| = {abs(error):.5g}, slope {_sign(error):g}: all errors pull alike
            Huber          e^2 / 2 up to {delta:g}, then straight: {float(huber(e, delta)):.5g}

        For classes. Cross-entropy is -ln of the probability of the right class:

            ln sum e^z - z[{label}] = {float(z.logsumexp(0)):.5g} - {logits[label]:g} = {
        float(cross_entropy(z, label)):.5g}

        For one yes-or-no answer it is written with the sigmoid of a single logit, computed from the
        logit and not from the sigmoid, which rounds to 0 or 1 and then has no logarithm.

        For arrangements. The triplet loss wants a positive example nearer to the anchor than a
        negative one by a margin: max(0, {near:.4g} - {far:.4g} + {margin:g}) = {triplet_loss:.5g}.
        InfoNCE asks which of {len(others) + 1} examples is the anchor's: it is the cross-entropy of
        their similarities divided by the temperature {temperature:g}, here {float(contrast):.5g};
        guessing costs ln {len(others) + 1} = {math.log(len(others) + 1):.4g}.

        Three things are called L2: this loss, a penalty on weights, and the length of a vector.
    """
    rows = [
        ("squared error", error**2, 2 * error),
        ("L1", abs(error), _sign(error)),
        ("Huber", float(huber(e, delta)), float(gradient_of(partial(huber, delta=delta))(e))),
        ("cross-entropy", float(cross_entropy(z, label)), float(z.softmax(0)[label] - 1)),
        ("binary, logit = error, yes", float(binary(e, torch.ones(1))), float(e.sigmoid() - 1)),
        ("triplet", triplet_loss, ""),
        ("InfoNCE", float(contrast), ""),
    ]
    claims = [
        *_errors(delta),
        *_classes(z, label),
        *_weights(),
        *_arrangements(margin, temperature),
    ]
    return LabResult(
        text, claims, partial(_draw, delta, temperature),
        [Table(("loss", "value", "slope by the prediction"), rows)],
        {"cross_entropy": float(cross_entropy(z, label)), "triplet": triplet_loss,
         "info_nce": float(contrast)},
    )  # fmt: skip


def huber(error: Tensor, delta: float) -> Tensor:
    """Return half the square up to `delta`, and the tangent from there on."""
    size = error.abs()
    return torch.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


def cross_entropy(z: Tensor, label: int) -> Tensor:
    """Return -ln of the probability that the logits `z` (C,) give to `label`."""
    return z.logsumexp(0) - z[label]


def binary(z: Tensor, y: Tensor) -> Tensor:
    """Return -ln of the probability that the logit `z` gives to the answer `y`, 0 or 1."""
    return z.clamp(min=0) - z * y + torch.log1p((-z.abs()).exp())


def info_nce(anchor: Tensor, examples: Tensor, temperature: float) -> Tensor:
    """Return the loss of finding the first of `examples` (N, D) by its cosine to `anchor`."""
    return cross_entropy(F.cosine_similarity(anchor[None], examples) / temperature, 0)


def _pictures() -> tuple[Tensor, Tensor, Tensor]:
    """Return an anchor, an example that is like it, and seven others."""
    draws = generator(0, "lab")
    anchor = torch.randn(8, generator=draws, dtype=torch.float64)
    positive = anchor + 0.5 * torch.randn(8, generator=draws, dtype=torch.float64)
    return anchor, positive, torch.randn(7, 8, generator=draws, dtype=torch.float64)


def _sign(error: float) -> float:
    return float(error > 0) - float(error < 0)


def _errors(delta: float) -> list[Claim]:
    e = torch.linspace(-6, 6, 121, dtype=torch.float64)
    zero = torch.zeros_like(e)
    prediction, target = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0])
    return [
        equals("(1, 2) for (2, 2): the mean squared error is 0.5",
               F.mse_loss(prediction, target), 0.5, 1e-12),
        agrees("Our Huber is PyTorch's", huber(e, delta),
               F.huber_loss(e, zero, reduction="none", delta=delta), 1e-12),
        agrees("At 1 it is SmoothL1", huber(e, 1.0), F.smooth_l1_loss(e, zero, reduction="none"),
               1e-12),
        agrees("Elsewhere it is delta times SmoothL1 with beta = delta", huber(e, delta),
               delta * F.smooth_l1_loss(e, zero, reduction="none", beta=delta), 1e-12),
        equals("L2 as a norm is the root of the squared loss's sum", (prediction - target).norm(),
               math.sqrt(float(F.mse_loss(prediction, target, reduction="sum"))), 1e-6, "T5.14"),
    ]  # fmt: skip


def _classes(z: Tensor, label: int) -> list[Claim]:
    known = torch.tensor([2.0, 0.5, -1.0], dtype=torch.float64)
    x = torch.linspace(-30, 30, 61, dtype=torch.float64)
    yes, far = torch.ones_like(x), torch.tensor([-200.0])
    return [
        equals("Cross-entropy by hand is PyTorch's", cross_entropy(z, label),
               F.cross_entropy(z[None], torch.tensor([label])), 1e-12),
        equals("(2, 0.5, -1), label 0: 0.2413", cross_entropy(known, 0), 0.2413, 5e-5),
        agrees("Binary cross-entropy from the logit is PyTorch's", binary(x, yes),
               F.binary_cross_entropy_with_logits(x, yes, reduction="none"), 1e-12),
        is_true("-ln(sigmoid(-200)) is infinite in float32, from the logit it is 200",
                (-far.sigmoid().log()).isinf() and binary(far, torch.ones(1)) == 200, "T5.12"),
    ]  # fmt: skip


def _weights() -> list[Claim]:
    """Return what a mean with class weights divides by."""
    z = torch.tensor([[1.0, 0.0], [0.2, 0.4], [0.0, 2.0]], dtype=torch.float64)
    y, w = torch.tensor([0, 0, 1]), torch.tensor([1.0, 3.0], dtype=torch.float64)
    each = F.cross_entropy(z, y, reduction="none") * w[y]
    found = F.cross_entropy(z, y, weight=w)
    return [
        equals("Class weights: the mean divides by the weights of the targets, 1 + 1 + 3", found,
               each.sum() / 5, 1e-12, "T5.7"),
        is_true("not by the number of samples", abs(found - each.sum() / 3) > 0.1, "T5.7"),
    ]  # fmt: skip


def _arrangements(margin: float, temperature: float) -> list[Claim]:
    anchor, positive, others = _pictures()
    near, far = ((anchor - p).norm() for p in (positive, others[0]))
    ours = (near - far + margin).clamp(min=0)
    theirs = F.triplet_margin_loss(anchor[None], positive[None], others[:1], margin=margin)
    examples = torch.cat([positive[None], others])
    p = (F.normalize(examples, dim=1) @ F.normalize(anchor, dim=0) / temperature).softmax(0)
    alike = info_nce(anchor, anchor.repeat(8, 1), temperature)
    return [
        equals("The triplet loss by hand is PyTorch's", ours, theirs, 1e-5),
        equals(
            "InfoNCE is -ln of the softmax over similarities",
            info_nce(anchor, examples, temperature),
            -p[0].log(),
            1e-9,
        ),
        equals("Where all examples are alike it is ln 8", alike, math.log(8), 1e-9),
    ]


def _draw(delta: float, temperature: float) -> Figure:
    from pellucid.labs.drawing import BLUE, GOLD, GREEN, RED, finish, sheet

    figure, (errors, classes, contrast) = sheet("What losses charge", 3, size=(14, 4.6))
    e = torch.linspace(-4, 4, 300, dtype=torch.float64)
    for name, values, colour in (("squared", e**2, RED), ("L1", e.abs(), GREEN),
                                 (f"Huber, delta {delta:g}", huber(e, delta), BLUE)):  # fmt: skip
        errors.plot(e, values, color=colour, label=name)
    errors.set_ylim(0, 8)
    finish(errors, "for numbers", "error", "loss", legend=True)
    z = torch.linspace(-6, 6, 300, dtype=torch.float64)
    p = z.sigmoid()
    classes.plot(z, binary(z, torch.ones_like(z)), color=BLUE, label="cross-entropy")
    classes.plot(z, (1 - p) ** 2, color=RED, label="squared error after sigmoid")
    classes.plot(z, (z < 0).double(), color=GOLD, linestyle="--", label="0-1: wrong or right")
    finish(classes, "for a class, right answer: yes", "logit", "loss", legend=True)
    anchor, positive, others = _pictures()
    examples = torch.cat([positive[None], others])
    rates = torch.logspace(-2, 1, 60, dtype=torch.float64).tolist()
    contrast.plot(rates, [float(info_nce(anchor, examples, t)) for t in rates], color=BLUE)
    contrast.axhline(math.log(8), color="#666666", linestyle=":", label="guessing: ln 8")
    contrast.axvline(temperature, color=RED, linestyle="--", label=f"here: {temperature:g}")
    contrast.set_xscale("log")
    finish(contrast, "InfoNCE over its temperature", "temperature", "loss", legend=True)
    return figure
