"""Can a fresh model learn one batch by heart? It is trained by the loop itself, and not kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.assemble import Assembled, build_state
from pellucid.checks.check import Check
from pellucid.checks.preflight_start import quiet
from pellucid.engine import Engine
from pellucid.loop import fit
from pellucid.plan import Plan
from pellucid.recipe import Recipe
from pellucid.state import State
from pellucid.task import Task
from pellucid.values import Batch

IMAGES = 32
"""Images of the batch that is learned by heart."""
HEART = 200
"""Steps in which it must be; the networks here need 10 to 60."""
NEARLY = 0.05
"""It is learned when the loss has gone this near to its floor, as a share of the way."""
FALLBACK = 1e-3
"""Learning rate of Adam, the second try."""


@dataclass(frozen=True)
class OneBatch:
    """The same batch at each step."""

    batch: Batch

    def index(self, step: int) -> Tensor:
        """Return the positions of its images."""
        del step
        return self.batch.index

    def pieces(self, step: int) -> Iterator[Batch]:
        """Yield it, in one piece."""
        del step
        yield self.batch


def fresh(recipe: Recipe, engine: Engine, built: Assembled) -> tuple[State, Engine]:
    """Return a new state at step 0, and an engine whose loss scaling is its own.

    Without `torch.compile`: it would take longer than these few steps.
    """
    mine = Engine(engine.device, msgspec.structs.replace(engine.spec, compile=False))
    mine.precision = engine.precision
    classes = len(built.splits.train.classes)
    return build_state(recipe, mine, built.preprocessing.shape, classes), mine


def unjudged(task: Task, steps: int) -> Task:
    """Return `task` for `steps` steps, judged on nothing."""
    nothing = task.validation.part(torch.empty(0, dtype=torch.int64))
    plan = Plan(steps, task.plan.steps_per_epoch, 0)
    return replace(task, plan=plan, probe=nothing, validation=nothing)


def overfit(recipe: Recipe, engine: Engine, built: Assembled, steps: int = HEART) -> Check:
    """Check that a fresh model learns one small batch by heart.

    Without augmentation and dropout, by the recipe's loss and optimizer at its full rate; if that
    does not do it, by Adam at 0.001.
    """
    batch = _each_class(built, IMAGES)
    n = len(batch.index)
    first = _by_heart(recipe, engine, built, batch, steps, fallback=False)
    expected = f"within {steps} steps all right, the loss {NEARLY:.0%} of the way from its floor"
    if first.done:
        return Check("one batch by heart", "ok", first.text(n), expected)
    name = type(built.state.optimizer).__name__
    second = _by_heart(recipe, engine, built, batch, steps, fallback=True)
    measured = (
        f"{name} at {recipe.optimizer.lr:g}: {first.text(n)}; "
        f"Adam at {FALLBACK:g}: {second.text(n)}"
    )
    if second.done:
        advice = "The model can learn; with this optimizer it does not at this learning rate."
        advice += " Look for another one: pellucid preflight --lr-range."
        return Check("one batch by heart", "warning", measured, expected, advice)
    advice = (
        "A model that cannot learn a few images by heart has a fault: in its last layers (an "
        "activation behind the last one?), in the loss, or in the labels."
    )
    return Check("one batch by heart", "failed", measured, expected, advice)


@dataclass(frozen=True)
class _Heart:
    """How far one batch was learned: steps, losses, and images that are right in the end."""

    steps: int
    start: float
    loss: float
    floor: float
    right: int
    done: bool

    def text(self, n: int) -> str:
        floor = f" (floor {self.floor:.3f})" if self.floor > 0.005 else ""
        return (
            f"loss {self.start:.3f} to {self.loss:.3f}{floor} in {self.steps} steps, "
            f"{self.right} of {n} right"
        )


def _by_heart(
    recipe: Recipe, engine: Engine, built: Assembled, batch: Batch, steps: int, *, fallback: bool
) -> _Heart:
    state, engine = fresh(recipe, engine, built)
    prepare, lr = built.task.prepare, recipe.optimizer.lr
    task = replace(
        unjudged(built.task, steps),
        train=OneBatch(batch),
        augment=lambda batch, step: batch.with_images(prepare(batch.images)),
        schedule=lambda step: FALLBACK if fallback else lr,
        mode=quiet,
    )
    if fallback:
        state.optimizer = torch.optim.Adam(state.model.parameters(), lr=FALLBACK)
        task = replace(task, max_grad_norm=math.inf, max_grad_value=math.inf)
    targets = batch.targets.to(engine.device)
    floor = _floor(task, targets, len(built.splits.train.classes))
    losses: list[float] = []
    right = 0
    for step in fit(state, task, engine):
        losses.append(float(step.loss))
        if not math.isfinite(losses[-1]):
            break
        if losses[-1] - floor <= NEARLY * (losses[0] - floor):
            right = _right(state, task, engine, batch, targets)
            if right == len(targets):
                return _Heart(step.index, losses[0], losses[-1], floor, right, True)
    right = _right(state, task, engine, batch, targets)
    return _Heart(len(losses), losses[0], losses[-1], floor, right, False)


@torch.inference_mode()
def _right(state: State, task: Task, engine: Engine, batch: Batch, targets: Tensor) -> int:
    quiet(state.model)
    with engine.forward():
        logits = state.model(task.prepare(batch.images.to(engine.device)))
    return int((logits.argmax(1) == targets).sum())


def _floor(task: Task, targets: Tensor, classes: int) -> float:
    """Return the least loss that logits can give which are right: above 0 with label smoothing."""
    right = F.one_hot(targets, classes).float()
    return min(float(task.loss(right * (scale / 10), targets)) for scale in range(301))


def _each_class(built: Assembled, count: int) -> Batch:
    """Return `count` training images: the first of each class, then the second, and so on."""
    train = built.splits.train
    targets = train.targets
    rank = torch.zeros_like(targets)
    for label in targets.unique():
        members = targets == label
        rank[members] = torch.arange(int(members.sum()))
    index = (rank * len(train.classes) + targets).argsort()[:count]
    return Batch(
        train.pixels(index), train.label(index), index, torch.arange(len(index)), len(index)
    )
