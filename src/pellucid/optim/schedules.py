"""Learning-rate schedules: functions from the number of steps done to the next rate.

So a schedule can be drawn and tested without training, and needs nothing in a checkpoint.
Each equals its namesake in `torch.optim.lr_scheduler`, stepped once per optimizer step, or once
per epoch where the namesake's length is given in epochs.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from pellucid.optim.plateau import NoPlateau, Plateau
from pellucid.values import Schedule

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
WARMUP_START = 0.01
"""A warm-up rises linearly from this share of the rate; the rate itself is never 0."""


def warmed(schedule: Schedule, warmup: int) -> Schedule:
    """Return `schedule` scaled by a linear rise over its first `warmup` steps.

    >>> [round(warmed(lambda step: 1.0, 2)(step), 3) for step in range(3)]
    [0.01, 0.505, 1.0]
    """

    def lr(step: int) -> float:
        if step >= warmup:
            return schedule(step)
        return schedule(step) * (WARMUP_START + (1 - WARMUP_START) * step / warmup)

    return lr


class Constant(
    msgspec.Struct, frozen=True, tag_field="name", tag="constant", forbid_unknown_fields=True
):
    """The same rate throughout.

    Args:
        warmup: share of the run, in [0, 1], in which the rate first rises linearly.
    """

    warmup: Share = 0.0

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step."""
        return warmed(lambda step: lr, round(self.warmup * steps))

    def plateau(self) -> NoPlateau:
        """Return the rule that does nothing."""
        return NoPlateau()


class StepDecay(
    msgspec.Struct, frozen=True, tag_field="name", tag="step", forbid_unknown_fields=True
):
    """The rate times `gamma` after every `epochs` epochs (`StepLR`)."""

    epochs: Annotated[int, msgspec.Meta(ge=1)] = 10
    gamma: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    warmup: Share = 0.0

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step."""
        every = self.epochs * steps_per_epoch
        return warmed(lambda step: lr * self.gamma ** (step // every), round(self.warmup * steps))

    def plateau(self) -> NoPlateau:
        """Return the rule that does nothing."""
        return NoPlateau()


class Cosine(
    msgspec.Struct, frozen=True, tag_field="name", tag="cosine", forbid_unknown_fields=True
):
    """Half a cosine from the full rate to `floor` times it (`CosineAnnealingLR`).

    Loshchilov and Hutter (2017), without restarts.
    """

    floor: Share = 0.0
    warmup: Share = 0.0

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step."""
        low = lr * self.floor

        def cosine(step: int) -> float:
            return low + (lr - low) * (1 + math.cos(math.pi * step / steps)) / 2

        return warmed(cosine, round(self.warmup * steps))

    def plateau(self) -> NoPlateau:
        """Return the rule that does nothing."""
        return NoPlateau()


class PlateauSpec(
    msgspec.Struct, frozen=True, tag_field="name", tag="plateau", forbid_unknown_fields=True
):
    """The same rate, cut by `factor` when the validation loss stops falling.

    Args:
        factor: each cut multiplies the rate by it.
        patience: evaluations without a gain that are borne; the next one cuts.
        threshold: the least relative gain that counts.
        cooldown: evaluations after a cut that are not counted.
        floor: the rate is not cut below this.
        warmup: share of the run, in [0, 1], in which the rate first rises linearly.
    """

    factor: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    patience: Annotated[int, msgspec.Meta(ge=0)] = 10
    threshold: Annotated[float, msgspec.Meta(ge=0)] = 1e-4
    cooldown: Annotated[int, msgspec.Meta(ge=0)] = 0
    floor: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    warmup: Share = 0.0

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step, before cuts."""
        return warmed(lambda step: lr, round(self.warmup * steps))

    def plateau(self) -> Plateau:
        """Return the rule that cuts the rate."""
        return Plateau(self.factor, self.patience, self.threshold, self.cooldown, self.floor)
