"""The first optimizer step of a run, taken again exactly as the run took it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.assemble import Assembled, assemble
from pellucid.engine import Engine
from pellucid.inspection.onestep import Checks, OneStep, check_step, take_step
from pellucid.seeds import reseed
from pellucid.state import set_lr
from pellucid.values import Batch
from pellucid.viewdata import DoesNotApply
from pellucid.views.subject import Subject

STEP = 0
CHECKED = 32
"""Images of the batch on which the identities of a step are checked, in float64 too."""


@dataclass(frozen=True, eq=False)
class FirstStep:
    """The first step of a run.

    Args:
        built: the run as it began; the step has been taken.
        batch: the images as the network got them, and their targets.
        pixels: the same images as they are stored.
        seen: what the step did.
        start: the network before it.
        lr: the learning rate of this step.
        logits: of the batch, before, (B, classes).
        optimizer: its name.
        start_miss: largest difference between the weights rebuilt from the seed and the run's
            own copy of step 0; None if it kept none.
        cleared: whether no gradient is left after clearing.
        rank: of the process that took it.
    """

    built: Assembled
    batch: Batch
    pixels: Tensor
    seen: OneStep
    start: nn.Module
    lr: float
    logits: Tensor
    optimizer: str
    start_miss: float | None
    cleared: bool
    rank: int

    def checks(self) -> Checks:
        """Return how the step keeps to what must hold, on its first `CHECKED` images."""
        task = self.built.task
        few = Batch(
            self.batch.images[:CHECKED], self.batch.targets[:CHECKED], self.batch.index[:CHECKED],
            self.batch.rows[:CHECKED], self.batch.size,
        )  # fmt: skip
        loss = _loss(task.loss, few, task.seed, self.rank)
        device = few.images.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return check_step(self.start, loss, self.seen.changes, self.lr or 0.1)


def first_step(subject: Subject) -> FirstStep:
    """Take the first step of the run again: same weights, batch, augmentation, dropout, rate.

    Raises:
        DoesNotApply: if this is no run, or its recipe was given from Python.
    """
    recipe = subject.recipe
    if recipe is None:
        raise DoesNotApply(
            "This needs a run with its recipe"
            + (", and parts of it were given from Python: pass it, of_run(run, recipe=recipe)."
               if subject.run else "; this is a model.")
        )  # fmt: skip
    engine = Engine.start(recipe.engine_on(str(subject.device)))
    with torch.random.fork_rng([subject.device] if subject.device.type == "cuda" else []):
        built = assemble(recipe, engine, start=subject.initial() is None)
        return _take(subject, built, engine)


def _take(subject: Subject, built: Assembled, engine: Engine) -> FirstStep:
    state, task = built.state, built.task
    model = state.model
    start = subject.initial()
    miss = None
    if start is not None:
        known = model.state_dict()
        miss = max(float((start[n].to(v.device).double() - v.double()).abs().max())
                   for n, v in known.items() if v.numel())  # fmt: skip
        if getattr(subject.recipe and subject.recipe.model, "pretrained", ""):
            miss = None  # the seed draws the head only; the rest came from a file
        model.load_state_dict(start)
    raw = list(task.train.pieces(STEP))
    batch = task.augment(engine.place(_joined(raw)), STEP)
    task.mode(model, STEP)
    lr = set_lr(state.optimizer, task.schedule(STEP))
    loss = _loss(task.loss, batch, task.seed, engine.rank)
    began = copy.deepcopy(model)
    with torch.no_grad():
        reseed(task.seed, "step", STEP, engine.rank)
        logits = copy.deepcopy(model)(batch.images)

    def step() -> None:
        engine.clip(model, task.max_grad_norm, task.max_grad_value)
        state.optimizer.step()

    seen = take_step(model, loss, step)
    cleared = all(p.grad is None for p in model.parameters())
    name = type(state.optimizer).__name__
    pixels = torch.cat([piece.images for piece in raw])
    return FirstStep(
        built, batch, pixels, seen, began, lr, logits, name, miss, cleared, engine.rank
    )


def _joined(pieces: list[Batch]) -> Batch:
    """Return the batch of a step that is computed in pieces."""
    return Batch(
        torch.cat([p.images for p in pieces]), torch.cat([p.targets for p in pieces]),
        torch.cat([p.index for p in pieces]), torch.cat([p.rows for p in pieces]), pieces[0].size,
    )  # fmt: skip


def _loss(
    of: Callable[[Tensor, Tensor], Tensor], batch: Batch, seed: int, rank: int
) -> Callable[[nn.Module], Tensor]:
    """Return the function from a model to its loss of `batch`, each time with the same draws."""

    def loss(model: nn.Module) -> Tensor:
        reseed(seed, "step", STEP, rank)
        weight = next(model.parameters())
        logits = model(batch.images.to(weight.dtype))
        try:
            return of(logits, batch.targets)
        except RuntimeError:  # a loss with weights of its own does not take float64
            return of(logits.float(), batch.targets)

    return loss


def chance(classes: int) -> float:
    """Return the loss of a model that knows nothing: ln of the number of classes."""
    return math.log(classes)


def shares(logits: Tensor, targets: Tensor) -> float:
    """Return the mean probability of the right class (hard or soft targets)."""
    p = logits.softmax(1)
    right = targets if targets.dim() == 2 else F.one_hot(targets, logits.shape[1])
    return float((p * right).sum(1).mean())
