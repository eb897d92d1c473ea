"""The recipe: everything that decides the numbers of a run, as one frozen value.

`catalogue.py` knows the parts that a file may name; here they are typed by what they must be
able to do, so that a part of your own can be passed from Python.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import msgspec
import torch
from torch import Tensor, nn

from pellucid.averages import EMA, Grown, NoEMA, soon
from pellucid.boardspec import TensorBoardSpec, VisdomSpec
from pellucid.engine import EngineSpec
from pellucid.plan import Duration, epochs
from pellucid.stopping import StopSpec
from pellucid.values import Augment, DataSource, FoldRule, Loss, PlateauRule, Schedule, StopRule


class ModelSpec(Protocol):
    """Builds a network."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the network for images of `shape` (C, H, W), giving logits (B, classes)."""


@runtime_checkable
class Pretrained(Protocol):
    """A `ModelSpec` whose network may start from weights that were trained before."""

    def start(
        self, model: Any, shape: tuple[int, int, int], classes: int, cache: Path
    ) -> dict[str, Any]:
        """Load them into `model`, and return what they are, for JSON; empty if there are none."""

    def statistics(self, channels: int) -> Sequence[tuple[float, ...]] | None:
        """Return the mean and standard deviation of the images that they expect, or None."""

    def notes(self, shape: tuple[int, int, int]) -> tuple[str, ...]:
        """Return sentences for the user on images of `shape`."""


class OptimizerSpec(Protocol):
    """Builds an optimizer."""

    @property
    def lr(self) -> float:
        """The full learning rate, which the schedule scales."""

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of the parameters of `model`."""


class ScheduleSpec(Protocol):
    """Builds a learning-rate schedule."""

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Schedule:
        """Return the function from steps done to the rate of the next step."""

    def plateau(self) -> PlateauRule:
        """Return the rule that lowers the rate by what validation shows, or none."""


class AugmentBuilder(Protocol):
    """Builds the augmentation of a training batch."""

    def build(self, seed: int, prepare: Any, classes: int, shape: tuple[int, int, int]) -> Augment:
        """Return the function (batch, step) -> batch as the network gets it."""


@runtime_checkable
class LossSpec(Protocol):
    """A loss that is made for the data."""

    def build(self, counts: Tensor, device: torch.device) -> Loss:
        """Return (logits, targets) -> mean loss, given the training images of each class (K,)."""


class InitSpec(Protocol):
    """Draws initial weights."""

    def apply(self, model: nn.Module) -> None:
        """Draw the weights of `model` anew, or leave them as its own code drew them."""


@runtime_checkable
class Seeing(Protocol):
    """An `InitSpec` that sets some weights by the training images, after it drew the others."""

    def see(self, model: nn.Module, images: Tensor) -> None:
        """Set them, by `images` (N, C, H, W) as the network gets them in evaluation."""


class Sampling(Protocol):
    """Which training images an epoch shows, and in which order."""

    def order(self, labels: Tensor, draws: torch.Generator) -> Tensor:
        """Return the positions of one epoch, int64 (N,), for `labels` (N,)."""


class StopBuilder(Protocol):
    """Builds the rule that may end a run early."""

    def build(self) -> StopRule:
        """Return the rule, with its counters at 0."""


class EMASpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the model that is judged and kept is an average over steps.

    Args:
        decay: of the average each time, in [0, 1); 0 means no averaging.
        every: steps from one time to the next.
        pull: whether training goes on from the average each time, as Lookahead does.
        growth: with 0 the decay is there soon (see `EMA`). Above, it grows with the share of the
            run that is done, to the power of `growth`: the first weights, which change fastest, are
            averaged least (Jordan, 2024, with 3).
    """

    decay: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    every: Annotated[int, msgspec.Meta(ge=1)] = 1
    pull: bool = False
    growth: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def build(self, model: nn.Module, steps: int = 1) -> EMA | NoEMA:
        """Return the average of the weights of `model`, or the object that does nothing.

        Args:
            model: that is trained.
            steps: of the run, over which the decay grows; 1 where the model does not train.
        """
        if not self.decay:
            return NoEMA(model)
        grown = Grown(steps, self.growth) if self.growth else soon
        return EMA(model, self.decay, self.every, self.pull, grown)


class RecordSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run writes down. It changes no weight, but it is part of what a run leaves.

    Args:
        every: steps between two rows of training loss in `metrics.jsonl`.
        checkpoint: time between two checkpoints; a new best is always saved.
        keep: checkpoints at these times are kept for good, beside the last and the best.
        snapshots: how many copies of the weights, evenly spread over the run, are kept for
            looking inside, beside that of step 0; 0 keeps none at all.
        tensorboard: write the run for TensorBoard too; needs the extra `board`.
        visdom: show it on a Visdom server that runs already.
    """

    every: Annotated[int, msgspec.Meta(ge=1)] = 50
    checkpoint: Duration = epochs(1)
    keep: Duration = epochs(5)
    snapshots: Annotated[int, msgspec.Meta(ge=0)] = 12
    tensorboard: TensorBoardSpec | None = None
    visdom: VisdomSpec | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the numbers of a run; nothing about where it is written.

    Args:
        data: where the images come from, and how large validation and test are.
        model: the network.
        init: how its weights are drawn.
        sampling: which training images an epoch shows.
        augment: what is done to training images.
        loss: (logits, targets) -> mean loss; a spec, or from Python any function.
        optimizer: with its learning rate.
        schedule: of the learning rate.
        ema: averaging of weights.
        stop: whether the run may end early.
        fold: which fold of the training images is the validation part; None: a share of them.
        length: of the run.
        evaluate: time between two evaluations.
        batch_size: images per optimizer step.
        accumulate: pieces in which a batch is computed, to save memory.
        max_grad_norm: gradients are scaled down to this norm; `inf` only measures it.
        max_grad_value: each number of a gradient is cut to this size; `inf` leaves all.
        seed: names all random streams.
        engine: device and precision.
        record: what is written down.

    >>> from pellucid import good
    >>> str(good("digits").with_(batch_size=64).length)
    '10 epochs'
    """

    data: DataSource
    model: ModelSpec
    init: InitSpec
    sampling: Sampling
    augment: AugmentBuilder
    loss: LossSpec | Loss
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    ema: EMASpec = field(default_factory=EMASpec)
    stop: StopBuilder = field(default_factory=StopSpec)
    fold: FoldRule | None = None
    length: Duration = epochs(10)
    evaluate: Duration = epochs(1)
    batch_size: int = 128
    accumulate: int = 1
    max_grad_norm: float = math.inf
    max_grad_value: float = math.inf
    seed: int = 0
    engine: EngineSpec = field(default_factory=EngineSpec)
    record: RecordSpec = field(default_factory=RecordSpec)

    def with_(self, **changes: Any) -> Recipe:
        """Return this recipe with some fields changed; a name that is no field is an error."""
        return replace(self, **changes)

    def engine_on(self, device: str) -> EngineSpec:
        """Return the engine of this recipe on another device, for inference: plain fp32."""
        return msgspec.structs.replace(self.engine, device=device, precision="fp32", compile=False)
