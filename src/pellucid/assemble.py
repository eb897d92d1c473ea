"""From a recipe to what the loop works on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pellucid.data.batches import Batches
from pellucid.data.preprocessing import Preprocessing
from pellucid.data.split import split
from pellucid.engine import Engine
from pellucid.errors import BadRecipe
from pellucid.optim.schedules import PlateauSpec
from pellucid.plan import Plan
from pellucid.recipe import Recipe
from pellucid.seeds import reseed
from pellucid.state import Best, State
from pellucid.task import Task
from pellucid.values import ImageSet, Progress, Splits, no_progress

PROBE = 2000
"""Training images, at most, that are judged in eval mode beside the validation images."""


@dataclass(frozen=True, eq=False)
class Assembled:
    """A recipe made real.

    Args:
        state: at step 0.
        task: what the loop works on.
        splits: the three parts of the data.
        preprocessing: with the statistics of the training part.
    """

    state: State
    task: Task
    splits: Splits
    preprocessing: Preprocessing


def assemble(recipe: Recipe, engine: Engine, progress: Progress = no_progress) -> Assembled:
    """Load the data of `recipe` and build everything that training on it needs.

    Raises:
        BadData: if the data cannot be trained on.
        BadRecipe: if the parts of the recipe do not fit each other or the data.
    """
    loaded = recipe.data.load(progress)
    splits = split(loaded, recipe.data.validation, recipe.data.test, recipe.seed)
    if isinstance(recipe.schedule, PlateauSpec) and not len(splits.validation):
        raise BadRecipe(
            "schedule.name plateau watches the validation loss, and there are no validation "
            "images. Set --data.validation above 0, or take another schedule."
        )
    preprocessing = Preprocessing.measure(splits.train)
    prepare = preprocessing.on(engine.device)
    batches = Batches(splits.train, recipe.batch_size, recipe.accumulate, recipe.seed)
    plan = _plan(recipe, batches.steps_per_epoch)
    schedule = recipe.schedule.build(recipe.optimizer.lr, plan.steps, plan.steps_per_epoch)
    task = Task(
        train=batches,
        probe=_probe(splits.train),
        validation=splits.validation,
        prepare=prepare,
        augment=recipe.augment.build(recipe.seed, prepare),
        loss=recipe.loss,
        schedule=schedule,
        plan=plan,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
    )
    return Assembled(
        build_state(recipe, engine, preprocessing.shape, len(splits.train.classes)),
        task,
        splits,
        preprocessing,
    )


def build_state(recipe: Recipe, engine: Engine, shape: tuple[int, int, int], classes: int) -> State:
    """Return the state at step 0: weights drawn from the seed, on the device of `engine`.

    Raises:
        BadRecipe: if the model cannot take images of this shape.
    """
    reseed(recipe.seed, "init")
    try:
        model = recipe.model.build(shape, classes)
    except ValueError as error:
        raise BadRecipe(f"The model does not fit the data: {error}.") from None
    engine.wrap(model)  # the optimizer has to see the weights where they will be
    return State(
        model=model,
        optimizer=recipe.optimizer.build(model),
        ema=recipe.ema.build(model),
        plateau=recipe.schedule.plateau(),
        best=Best(),
    )


def _plan(recipe: Recipe, per_epoch: int) -> Plan:
    steps = recipe.length.steps(per_epoch, recipe.batch_size)
    if steps < 1:
        raise BadRecipe(f'length must be at least one step. Got "{recipe.length}".')
    every = recipe.evaluate.steps(per_epoch, recipe.batch_size, steps)
    return Plan(steps, per_epoch, every)


def _probe(train: ImageSet) -> ImageSet:
    """Return at most `PROBE` training images, evenly spread over the set."""
    count = min(PROBE, len(train))
    return train.part(torch.arange(count) * len(train) // count, f"{train.name} (sample)")
