"""Where the time of a step goes: the training loop itself, with a clock at its parts.

The loop is not copied for this. It is given an engine and a task that note the time.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pellucid.assemble import Assembled
from pellucid.bench.yardsticks import wait
from pellucid.engine import Engine
from pellucid.loop import fit
from pellucid.plan import Plan
from pellucid.task import Task
from pellucid.values import Augment, Batch, Pieces
from pellucid.watch import Watch

PHASES = ("input", "forward", "backward", "update", "recording", "rest")
"""Parts of a step. Input: index, copy, augmentation. Forward: with the loss. Update: clipping, the
optimizer, sums over processes. Rest: what is left, such as the loop itself and the averages."""
FOREVER = 10**9


class Clock:
    """Adds up the time of the parts of one step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Count the time inside for `phase`; a GPU is waited for, so nothing overlaps."""
        wait(self.device)
        began = time.perf_counter()
        try:
            yield
        finally:
            wait(self.device)
            self.spent[phase] += time.perf_counter() - began

    def take(self) -> dict[str, float]:
        """Return what was counted, and begin anew."""
        spent, self.spent = dict(self.spent), defaultdict(float)
        return spent


class ClockedEngine(Engine):
    """An engine that computes what `engine` does, and notes the time."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        super().__init__(engine.device, engine.spec, engine.processes)
        self.precision, self.scaler = engine.precision, engine.scaler
        self.clock = clock

    def place(self, batch: Batch) -> Batch:
        """Return `batch` on the device."""
        with self.clock.of("input"):
            return super().place(batch)

    @contextlib.contextmanager
    def forward(self) -> Iterator[None]:
        """Return the context of a forward pass."""
        with self.clock.of("forward"), super().forward():
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to that of each parameter."""
        with self.clock.of("backward"):
            super().backward(loss)

    def sum(self, model: nn.Module, total: Tensor, step: int) -> Tensor:
        """Add up over all processes."""
        with self.clock.of("update"):
            return super().sum(model, total, step)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale of the loss."""
        with self.clock.of("update"):
            super().unscale(optimizer)

    def clip(self, model: nn.Module, max_norm: float, max_value: float = math.inf) -> Tensor:
        """Return the norm of the gradient; cut it."""
        with self.clock.of("update"):
            return super().clip(model, max_norm, max_value)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take one step."""
        with self.clock.of("update"):
            super().step(optimizer)


class ClockedPieces:
    """Training data that notes the time it takes to be fetched."""

    def __init__(self, train: Pieces, clock: Clock) -> None:
        self.train = train
        self.clock = clock

    def index(self, step: int) -> Tensor:
        """Return the positions of the images in the batch of `step`."""
        return self.train.index(step)

    def pieces(self, step: int) -> Iterator[Batch]:
        """Yield the pieces of the batch of `step`."""
        pieces = self.train.pieces(step)
        while True:
            with self.clock.of("input"):
                batch = next(pieces, None)
            if batch is None:
                return
            yield batch


def endless(task: Task) -> Task:
    """Return `task` without an end and without evaluations, which are no part of a step."""
    return replace(task, plan=Plan(FOREVER, task.plan.steps_per_epoch, FOREVER))


def _clocked(task: Task, clock: Clock) -> Task:
    augment: Augment = task.augment

    def timed(batch: Batch, step: int) -> Batch:
        with clock.of("input"):
            return augment(batch, step)

    return replace(endless(task), train=ClockedPieces(task.train, clock), augment=timed)


@dataclass(frozen=True)
class StepTimes:
    """Where the time of one step goes.

    Args:
        seconds: by phase, median over the steps; recording is a mean, for most steps record
            nothing.
        whole: seconds of a whole step, likewise.
        images: of one step.
        flops: floating-point operations of convolutions and matrix products, forward and
            backward.
        n: number of steps.
    """

    seconds: dict[str, float]
    whole: float
    images: int
    flops: int
    n: int

    @property
    def images_per_second(self) -> float:
        """Images of a step by its time."""
        return self.images / self.whole

    @property
    def flops_per_second(self) -> float:
        """Floating-point operations by the time of the whole step, whatever else it does."""
        return self.flops / self.whole


def step_times(engine: Engine, built: Assembled, watch: Watch, steps: int) -> StepTimes:
    """Train for a few steps, by the loop that trains always, and note the time of its parts.

    Args:
        engine: that computes.
        built: its state is trained on.
        watch: records the steps.
        steps: that are counted, at least 1; a tenth as many before them are not.
    """
    flops = _flops(engine, built)
    clock = Clock(engine.device)
    rows: list[dict[str, float]] = []
    warm = max(2, steps // 10)
    wait(engine.device)
    began = time.perf_counter()
    for step in fit(built.state, _clocked(built.task, clock), ClockedEngine(engine, clock)):
        with clock.of("recording"):
            watch(step)
        wait(engine.device)
        now = time.perf_counter()
        rows.append({**clock.take(), "whole": now - began})
        began = now
        if len(rows) == warm + steps:
            break
    del rows[:warm]
    whole = statistics.median(row["whole"] for row in rows)
    seconds = {
        phase: statistics.median(row.get(phase, 0.0) for row in rows)
        for phase in PHASES
        if phase != "rest"
    }
    seconds["recording"] = statistics.fmean(row["recording"] for row in rows)
    seconds["rest"] = max(0.0, whole - sum(seconds.values()))
    return StepTimes(seconds, whole, len(built.task.train.index(0)), flops, len(rows))


def _flops(engine: Engine, built: Assembled) -> int:
    """Return the operations of one batch, forward and backward; the weights stay as they are."""
    task, model = built.task, built.state.model
    task.mode(model, 0)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with FlopCounterMode(display=False) as counter:
        for batch in task.train.pieces(0):
            batch = task.augment(engine.place(batch), 0)
            with engine.forward():
                loss = task.loss(model(batch.images).float(), batch.targets)
            loss.backward()
    built.state.optimizer.zero_grad(set_to_none=True)
    model.load_state_dict(kept)  # BatchNorm took note of the batch
    return int(counter.get_total_flops())
