"""Classic training bugs, each planted in a real short run.

A bug is planted where it would sit in life: in a part of the recipe that is given from Python, in
what was assembled from it, or in the loop itself, from whose source one line is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import nn

from pellucid import Recipe, steps
from pellucid.assemble import Assembled
from pellucid.loop import fit
from pellucid.models.init import Bad
from pellucid.models.resnet import ResNetSpec
from pellucid.optim.specs import SGD, Adam
from pellucid.values import Loaded
from tests.checks.faults_parts import (
    Around,
    Before,
    Changed,
    LastLayerOnly,
    PerBatch,
    RawPixels,
    Sigmoids,
    Sorted,
    StuckMode,
    TargetsAstray,
    TooSmall,
    Zeros,
    all_but_last_frozen,
    doubled,
    evaluation_augmented,
    first_detached,
    leaking_test,
    negative_biases,
    raw_everywhere,
    reshaped,
    shuffled_labels,
    validation_off_by_one,
)
from tests.checks.faults_run import Few, Loop, Observed, Setting, fit_without, observe, same


@dataclass(frozen=True)
class Fault:
    """A bug, and the finding that is to name it.

    Args:
        name: what was done wrong.
        expected: the finding.
        recipe: the setting -> the recipe with the bug.
        spoil: what is done to the assembled run.
        loop: the loop.
    """

    name: str
    expected: str
    recipe: Callable[[Setting], Recipe] = Setting.recipe
    spoil: Callable[[Assembled], Assembled] = same
    loop: Loop = fit

    def run(self, setting: Setting, until: str = "") -> Observed:
        return observe(self.recipe(setting), self.spoil, self.loop, until)


def model(change: Callable[[nn.Module], nn.Module], **keys: Any) -> Callable[[Setting], Recipe]:
    """Return the setting's recipe with its network changed."""
    return lambda s: s.recipe(model=Around(s.model(**{"dropout": 0.0, **keys}), change))


def data(change: Callable[[Loaded], Loaded]) -> Callable[[Setting], Recipe]:
    """Return the setting's recipe with its data changed."""
    return lambda s: s.recipe(data=Changed(Few(s.source, s.per_class, s.seed), change))


def part(**changes: Any) -> Callable[[Setting], Recipe]:
    """Return the setting's recipe with other parts."""
    return lambda s: s.recipe(**changes)


def imbalanced(s: Setting) -> Recipe:
    return s.recipe(data=Few(s.source, (10 * s.per_class,) + (s.per_class // 6,) * 9, s.seed))


def overfitted(s: Setting) -> Recipe:
    return s.recipe(
        data=Few(s.source, (12,) * 10, s.seed, validation=0.5), length=steps(2 * s.steps)
    )


FAULTS = [
    Fault("softmax at the end of the model", "outputs-are-probabilities",
          model(lambda m: nn.Sequential(m, nn.Softmax(1)))),
    Fault("ReLU behind the last layer", "outputs-are-squashed",
          model(lambda m: nn.Sequential(m, nn.ReLU()))),
    Fault("softmax inside the loss", "loss-cannot-reach-its-floor",
          part(loss=lambda z, t: F.cross_entropy(z.softmax(1), t))),
    Fault("loss summed, not averaged", "loss-is-a-sum",
          part(loss=lambda z, t: F.cross_entropy(z, t, reduction="sum"))),
    Fault("no zero_grad", "gradients-not-cleared", loop=fit_without("zero_grad")),
    Fault("no optimizer step", "weights-stand-still", loop=fit_without("engine.step(")),
    Fault("eval mode while training", "eval-mode-in-training",
          model(lambda m: StuckMode(m, False), dropout=0.25)),
    Fault("train mode while evaluating (dropout)", "evaluation-not-repeatable",
          model(lambda m: StuckMode(m, True), dropout=0.25)),
    Fault("F.dropout without its flag", "evaluation-not-repeatable",
          model(lambda m: Before(m, lambda x: F.dropout(x, 0.2)))),
    Fault("train mode while evaluating (batch norm)", "images-influence-each-other",
          part(model=Around(ResNetSpec(depth=8, width=8), lambda m: StuckMode(m, True)))),
    Fault("reshape where transpose was meant", "images-influence-each-other",
          model(lambda m: Before(m, reshaped))),
    Fault("learning rate x100 (Adam)", "lr-too-high", part(optimizer=Adam(lr=0.1))),
    Fault("learning rate x100 (SGD)", "lr-too-high", part(optimizer=SGD(lr=5.0))),
    Fault("learning rate /1000 (Adam)", "lr-too-low", part(optimizer=Adam(lr=1e-6))),
    Fault("learning rate /1000 (SGD)", "lr-too-low", part(optimizer=SGD(lr=5e-5))),
    Fault("decay per batch, not per epoch", "lr-falls-too-soon", part(schedule=PerBatch())),
    Fault("shuffled labels", "labels-unrelated", data(shuffled_labels)),
    Fault("images reordered without their labels", "targets-not-of-images",
          part(augment=TargetsAstray())),
    Fault("labels off by one in validation", "labels-in-another-order",
          data(validation_off_by_one)),
    Fault("raw pixels, 0 to 255", "input-not-normalised", spoil=raw_everywhere),
    Fault("raw pixels in training only", "parts-prepared-differently", part(augment=RawPixels())),
    Fault("augmentation on validation", "preparation-not-repeatable", spoil=evaluation_augmented),
    Fault("test images among the training images", "parts-share-images", data(leaking_test)),
    Fault("images doubled before the split", "parts-share-images", data(doubled)),
    Fault("batches not shuffled", "batches-not-shuffled", part(sampling=Sorted())),
    Fault("deep sigmoids, small weights", "vanishing-gradients", part(model=Sigmoids(0.05))),
    Fault("deep sigmoids, large weights", "saturated-units", part(model=Sigmoids(1.0))),
    Fault("large initial weights", "exploding-gradients", part(init=Bad(std=1.0))),
    Fault("all weights 0", "weights-stand-still", part(init=Zeros())),
    Fault("layers left frozen", "weights-stand-still", model(all_but_last_frozen)),
    Fault("optimizer has the last layer only", "weights-stand-still",
          part(optimizer=LastLayerOnly())),
    Fault("a detach in the forward pass", "weights-stand-still", model(first_detached)),
    Fault("dead ReLU", "dead-units", model(negative_biases)),
    Fault("too few images for too long", "overfitting", overfitted),
    Fault("a model that is too small", "underfitting", lambda s: s.recipe(
        model=TooSmall(), optimizer=Adam(lr=0.1), length=steps(3 * s.steps))),
    Fault("one class 60 times as large", "imbalance", imbalanced),
]  # fmt: skip
