"""Checks of what the untrained model puts out. They work on a copy; nothing of a run is touched."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pellucid.assemble import Assembled
from pellucid.checks.check import Check, Verdict
from pellucid.engine import Engine

CHUNK = 100
"""Images per forward pass."""
BLURRED = 1.0
"""Nats above ln C up to which the first loss is good. Normally distributed logits of variance v,
which know nothing of the image, cost at most v / 2 more than ln C (Jensen's inequality); He's
initialisation of the last layer gives v = 2, PyTorch's own less."""
LOUD = 4.5
"""From here on, by the same bound, logits have a standard deviation of 3 and more: the untrained
model is sure of its guesses, and the first steps do nothing but calm it down."""
BELOW = 0.1
"""Nats below ln C that chance may bring, beside 3 standard errors."""


def quiet(model: nn.Module, step: int = 0) -> None:
    """Put `model` in eval mode, but let BatchNorm use the statistics of the batch.

    Before any training, its running statistics are those of nothing. Dropout and whatever else
    draws random numbers is off. It takes a step, as a task's `mode` does, and does not need it.
    """
    del step
    model.eval()
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.train()


@dataclass(frozen=True, eq=False)
class Look:
    """What an untrained model says.

    Args:
        logits: float32 (N, K) on the CPU, if the model is sound; empty if it raised.
        targets: int64 (N,).
        classes: number of classes.
        error: what the model raised, or an empty text.
    """

    logits: Tensor
    targets: Tensor
    classes: int
    error: str = ""

    @property
    def sound(self) -> bool:
        """Whether there is one number for each image and class."""
        return not self.error and self.logits.shape == (len(self.targets), self.classes)


def look(built: Assembled, engine: Engine, count: int) -> Look:
    """Show a copy of the model of `built` at most `count` training images, evenly spread."""
    train = built.splits.train
    count = min(count, len(train))
    index = torch.arange(count) * len(train) // count
    targets, classes = train.label(index), len(train.classes)
    model = copy.deepcopy(built.state.model)
    quiet(model)
    logits = []
    try:
        with torch.inference_mode():
            for part in index.tensor_split(math.ceil(count / CHUNK)):
                x = built.task.prepare(train.pixels(part).to(engine.device))
                with engine.forward():
                    logits.append(model(x).float().cpu())
            return Look(torch.cat(logits), targets, classes)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Look(torch.empty(0), targets, classes, text[:200])


def output(seen: Look) -> Check:
    """Check that the model gives finite logits, one for each class, and no probabilities."""
    shape = f"{len(seen.targets)} x {seen.classes}"
    measured, advice = _output(seen)
    return Check("output", "failed" if advice else "ok", measured, f"{shape} finite logits", advice)


def _output(seen: Look) -> tuple[str, str]:
    """Return what was found, and what to do about it."""
    logits, classes = seen.logits, seen.classes
    if seen.error:
        return seen.error, "The model does not take these images: call it on one batch to see why."
    shape = " x ".join(map(str, logits.shape))
    if not seen.sound:
        return shape, f"The last layer must give one number for each of the {classes} classes."
    if not bool(logits.isfinite().all()):
        return f"{shape}, nan or infinity", (
            "Look for a division by 0, a logarithm of 0, or weights that are not finite."
        )
    measured = f"{shape}, {float(logits.min()):.2f} to {float(logits.max()):.2f}"
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        floor = math.log(math.e + classes - 1) - 1
        return f"{measured}, each row sums to 1: probabilities", (
            "The model ends with a softmax, and cross-entropy takes the softmax once more: the "
            f"loss cannot go below {floor:.2f}. Leave the softmax out."
        )
    return measured, ""


def start_loss(seen: Look) -> Check:
    """Check that the untrained model does about as well as an even guess: ln C.

    Plain cross-entropy in nats, whatever the recipe's loss is: label smoothing and class weights
    would move it. In eval mode, but BatchNorm takes the statistics of its batch.
    """
    chance = math.log(seen.classes)
    losses = F.cross_entropy(seen.logits.double(), seen.targets, reduction="none")
    loss, error = float(losses.mean()), float(losses.std()) / math.sqrt(len(losses))
    verdict, advice = _judged(loss - chance, error)
    return Check(
        "loss at the start",
        verdict,
        f"{loss:.3f} +- {error:.3f}, n = {len(losses)}",
        f"ln {seen.classes} = {chance:.3f}, up to {BLURRED:g} more",
        advice,
    )


def _judged(above: float, error: float) -> tuple[Verdict, str]:
    """Return what to say of a first loss that lies `above` ln C, with its standard error."""
    if not above <= LOUD:  # also if it is no number
        return "failed", (
            "The untrained model is far too sure of itself: the input is not normalised, or the "
            "weights start too large."
        )
    if above > BLURRED:
        return "warning", (
            "The logits start large, and the first steps only shrink them: let the weights of the "
            "last layer start smaller."
        )
    if above < -BELOW - 3 * error:
        return "warning", (
            "Better than guessing before any training: pretrained weights, or the image shows its "
            "label."
        )
    return "ok", ""
