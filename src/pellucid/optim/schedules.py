"""Learning-rate schedules: functions from the number of steps done to the next rate.

So a schedule can be drawn and tested without training, and needs nothing in a checkpoint.
Each equals its namesake in `torch.optim.lr_scheduler`, stepped once per optimizer step, or once
per epoch where the namesake's length is given in epochs.
"""

from __future__ import annotations

import bisect
import math
from typing import Annotated

import msgspec

from pellucid.optim.plateau import NoPlateau, Plateau
from pellucid.values import Schedule

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Factor = Annotated[float, msgspec.Meta(gt=0, le=1)]
Epochs = Annotated[int, msgspec.Meta(ge=1)]
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


class Warmed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all schedules but one-cycle share.

    Args:
        warmup: share of the run, in [0, 1], in which the rate first rises linearly.
    """

    warmup: Share = 0.0

    def plateau(self) -> NoPlateau | Plateau:
        """Return the rule that lowers the rate by what validation shows: here none."""
        return NoPlateau()

    def _warmed(self, schedule: Schedule, steps: int) -> Schedule:
        return warmed(schedule, round(self.warmup * steps))


class Constant(Warmed, frozen=True, tag_field="name", tag="constant"):
    """The same rate throughout."""

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step."""
        return self._warmed(lambda step: lr, steps)


class StepDecay(Warmed, frozen=True, tag_field="name", tag="step"):
    """The rate times `gamma` after every `epochs` epochs (`StepLR`)."""

    epochs: Epochs = 10
    gamma: Factor = 0.1

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step.

        Raises:
            ValueError: if the run ends before the first cut.
        """
        every = self.epochs * steps_per_epoch
        _cuts_within("epochs", self.epochs, every, steps, steps_per_epoch)
        return self._warmed(lambda step: lr * self.gamma ** (step // every), steps)


class MultiStep(Warmed, frozen=True, tag_field="name", tag="multistep"):
    """The rate times `gamma` after each of the epochs in `milestones` (`MultiStepLR`)."""

    milestones: Annotated[tuple[Epochs, ...], msgspec.Meta(min_length=1)] = (5, 8)
    gamma: Factor = 0.1

    def __post_init__(self) -> None:
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(f"milestones must rise; got {list(self.milestones)}")

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step.

        Raises:
            ValueError: if the run ends before the last milestone.
        """
        cuts = [epoch * steps_per_epoch for epoch in self.milestones]
        _cuts_within("milestones", self.milestones[-1], cuts[-1], steps, steps_per_epoch)
        return self._warmed(lambda step: lr * self.gamma ** bisect.bisect_right(cuts, step), steps)


class Exponential(Warmed, frozen=True, tag_field="name", tag="exponential"):
    """The rate times `gamma` after each epoch (`ExponentialLR`)."""

    gamma: Factor = 0.9

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step."""
        return self._warmed(lambda step: lr * self.gamma ** (step // steps_per_epoch), steps)


class Cosine(Warmed, frozen=True, tag_field="name", tag="cosine"):
    """Half a cosine from the full rate to `floor` times it (`CosineAnnealingLR`).

    Loshchilov and Hutter (2017), without restarts.
    """

    floor: Share = 0.0

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step."""
        return self._warmed(lambda step: _cosine(lr, lr * self.floor, step / steps), steps)


class Linear(Warmed, frozen=True, tag_field="name", tag="linear"):
    """A straight line from the full rate to `floor` times it (`LinearLR`)."""

    floor: Share = 0.0

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step."""
        return self._warmed(lambda step: lr * (1 - (1 - self.floor) * step / steps), steps)


class OneCycle(msgspec.Struct, frozen=True, tag_field="name", tag="onecycle", kw_only=True,
               forbid_unknown_fields=True):  # fmt: skip
    """Up from a small rate to the full one and down to almost 0, on cosines (`OneCycleLR`).

    Smith and Topin (2018). Momentum stays as it is.

    Args:
        rise: share of the run in which the rate rises, in (0, 1).
        start: the first rate as a share of the full one.
        end: the last rate as a share of the first one.
    """

    rise: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.3
    start: Factor = 0.04
    end: Factor = 1e-4

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step.

        Raises:
            ValueError: if the run is too short to rise and fall.
        """
        low, top = lr * self.start, self.rise * steps - 1
        if not 0 < top < steps - 1:
            raise ValueError(f"onecycle needs a longer run to rise and fall: this one has {steps}")
        last = low * self.end

        def onecycle(step: int) -> float:
            if step <= top:
                return _cosine(low, lr, step / top)
            return _cosine(lr, last, (step - top) / (steps - 1 - top))

        return onecycle

    def plateau(self) -> NoPlateau:
        """Return the rule that does nothing."""
        return NoPlateau()


class PlateauSpec(Warmed, frozen=True, tag_field="name", tag="plateau"):
    """The same rate, cut by `factor` when the validation loss stops falling.

    Args:
        factor: each cut multiplies the rate by it.
        patience: evaluations without a gain that are borne; the next one cuts.
        threshold: the least relative gain that counts.
        cooldown: evaluations after a cut that are not counted.
        floor: the rate is not cut below this.
    """

    factor: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    patience: Annotated[int, msgspec.Meta(ge=0)] = 10
    threshold: Annotated[float, msgspec.Meta(ge=0)] = 1e-4
    cooldown: Annotated[int, msgspec.Meta(ge=0)] = 0
    floor: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step, before cuts."""
        return self._warmed(lambda step: lr, steps)

    def plateau(self) -> Plateau:
        """Return the rule that cuts the rate."""
        return Plateau(self.factor, self.patience, self.threshold, self.cooldown, self.floor)


def _cosine(first: float, last: float, share: float) -> float:
    """Return the point at `share` of the way from `first` to `last` on half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _cuts_within(name: str, given: int, cut: int, steps: int, steps_per_epoch: int) -> None:
    if cut >= steps:
        raise ValueError(
            f"{name} {given}: the rate would be cut after epoch {given}, but the run ends with "
            f"epoch {-(-steps // steps_per_epoch)}. Cut earlier, or train longer"
        )
