"""From a recipe to what the loop works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from pellucid.data.batches import Batches
from pellucid.data.cache import cache_folder
from pellucid.data.hard import HardBatches
from pellucid.data.preprocessing import Preprocessing
from pellucid.data.sampling import Hard
from pellucid.data.split import split
from pellucid.engine import Engine
from pellucid.errors import BadRecipe
from pellucid.models.init import Default
from pellucid.optim.freezing import training_mode
from pellucid.optim.schedules import PlateauSpec
from pellucid.plan import Plan
from pellucid.recipe import LossSpec, Pretrained, Recipe, Seeing
from pellucid.seeds import reseed
from pellucid.state import Best, State
from pellucid.stopping import NeverStop
from pellucid.task import Task
from pellucid.values import Batch, ImageSet, Loss, Progress, Splits, no_progress

T = TypeVar("T")

PROBE = 2000
"""Training images, at most, that are judged in eval mode beside the validation images."""


@dataclass(frozen=True, eq=False)
class Assembled:
    """A recipe made real.

    Args:
        state: at step 0.
        task: what the loop works on.
        splits: the three parts of the data.
        preprocessing: with the statistics of the training part, or of the pretrained weights.
        pretrained: what is known of the pretrained weights that the model starts from; or empty.
    """

    state: State
    task: Task
    splits: Splits
    preprocessing: Preprocessing
    pretrained: dict[str, Any]

    def first(self, engine: Engine) -> Batch:
        """Return the first piece of the first batch on the device, as evaluation prepares it."""
        batch = engine.place(next(iter(self.task.train.pieces(0))))
        return batch.with_images(self.task.prepare(batch.images))


def assemble(
    recipe: Recipe, engine: Engine, progress: Progress = no_progress, *, start: bool = True
) -> Assembled:
    """Load the data of `recipe` and build everything that training on it needs.

    Args:
        recipe: what to train.
        engine: that computes.
        progress: told while data is read.
        start: load pretrained weights, if the model wants them; not where a checkpoint follows,
            which holds them.

    Raises:
        BadData: if the data cannot be trained on.
        BadRecipe: if the parts of the recipe do not fit each other or the data.
    """
    loaded = recipe.data.load(progress)
    splits = split(loaded, recipe.data.validation, recipe.data.test, recipe.seed, recipe.fold)
    if isinstance(recipe.schedule, PlateauSpec) and not len(splits.validation):
        raise BadRecipe(
            "schedule.name plateau watches the validation loss, and there are no validation "
            "images. Set --data.validation above 0, or take another schedule."
        )
    _check_stop(recipe, splits)
    preprocessing = _preprocessing(recipe, splits.train)
    prepare = preprocessing.on(engine.device)
    classes = len(splits.train.classes)
    _check_processes(recipe, splits.train, engine.processes.size)
    kind = HardBatches if isinstance(recipe.sampling, Hard) else Batches
    batches = kind(
        splits.train, recipe.batch_size, recipe.accumulate, recipe.seed, recipe.sampling,
        engine.rank, engine.processes.size,
    )  # fmt: skip
    plan = _plan(recipe, batches.steps_per_epoch)
    model = build_model(recipe, preprocessing.shape, classes)
    pretrained = _start(recipe, model, preprocessing.shape, classes) if start else {}
    probe = _probe(splits.train)
    if start and isinstance(recipe.init, Seeing):
        pixels = probe.images[probe.rows]
        recipe.init.see(model, preprocessing.on(pixels.device)(pixels))
    if isinstance(recipe.model, Pretrained):
        notes = recipe.model.notes(preprocessing.shape)
        splits = replace(splits, notes=(*splits.notes, *notes))
    state = replace(state_of(recipe, engine, model, plan.steps), losses=batches.losses)
    task = Task(
        train=batches,
        probe=probe,
        validation=splits.validation,
        prepare=prepare,
        augment=_fitting(
            lambda: recipe.augment.build(recipe.seed, prepare, classes, preprocessing.shape)
        ),
        loss=_loss(recipe, splits.train, engine),
        schedule=_fitting(
            lambda: recipe.schedule.build(recipe.optimizer.lr, plan.steps, plan.steps_per_epoch)
        ),
        plan=plan,
        mode=training_mode(state.model, plan.steps_per_epoch),
        max_grad_norm=recipe.max_grad_norm,
        max_grad_value=recipe.max_grad_value,
        seed=recipe.seed,
    )
    return Assembled(state, task, splits, preprocessing, pretrained)


def build_state(recipe: Recipe, engine: Engine, shape: tuple[int, int, int], classes: int) -> State:
    """Return the state at step 0 on the device of `engine`, without pretrained weights.

    Raises:
        BadRecipe: if the model cannot take images of this shape.
    """
    return state_of(recipe, engine, build_model(recipe, shape, classes))


def build_model(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the network with weights drawn from the seed.

    Raises:
        BadRecipe: if it cannot take images of this shape.
    """
    reseed(recipe.seed, "init")
    try:
        model = recipe.model.build(shape, classes)
    except ValueError as error:
        raise BadRecipe(f"The model does not fit the data: {error}.") from None
    _fitting(lambda: recipe.init.apply(model))
    return model


def state_of(recipe: Recipe, engine: Engine, model: nn.Module, steps: int = 1) -> State:
    """Return the state at step 0 around `model`, which is put on the device of `engine`.

    Args:
        recipe: what to train.
        engine: that computes.
        model: with its first weights.
        steps: of the whole run, for what grows over it.
    """
    engine.put(model)  # the optimizer has to see the weights where they will be
    return State(
        model=model,
        optimizer=recipe.optimizer.build(model),
        ema=recipe.ema.build(model, steps),
        plateau=recipe.schedule.plateau(),
        stop=recipe.stop.build(),
        best=Best(),
        scaler=engine.scaler,
    )


def _preprocessing(recipe: Recipe, train: ImageSet) -> Preprocessing:
    """Return what pretrained weights expect of the images, or the statistics of `train`."""
    if isinstance(recipe.model, Pretrained):
        known = recipe.model.statistics(train.shape[0])
        if known:
            return Preprocessing(train.shape, *known)
    return Preprocessing.measure(train)


def _start(
    recipe: Recipe, model: nn.Module, shape: tuple[int, int, int], classes: int
) -> dict[str, Any]:
    """Load pretrained weights into `model`, if the recipe has any; return what they are."""
    if not isinstance(recipe.model, Pretrained):
        return {}
    facts = recipe.model.start(model, shape, classes, cache_folder())
    if facts and not isinstance(recipe.init, Default):
        raise BadRecipe(
            "init draws all weights anew, and model.pretrained brings trained ones: "
            "leave init.name at default, or model.pretrained empty."
        )
    return facts


def _check_processes(recipe: Recipe, train: ImageSet, processes: int) -> None:
    images = min(recipe.batch_size, len(train))
    if processes > 1 and isinstance(recipe.sampling, Hard):
        raise BadRecipe(
            "sampling.name hard goes by the losses of all images, and each of the "
            f"{processes} processes sees only its own: train in one process, or take "
            "--sampling.name shuffled."
        )
    if processes > 1 and images < 2 * processes:
        raise BadRecipe(
            f"{processes} processes need batches of at least {2 * processes} images, two for each; "
            f"batch_size is {recipe.batch_size}, and there are {len(train):,} training images. "
            "Start fewer processes, or raise --batch-size."
        )


def _check_stop(recipe: Recipe, splits: Splits) -> None:
    if not isinstance(recipe.stop.build(), NeverStop) and not len(splits.validation):
        raise BadRecipe(
            "stop.patience watches the validation part, and there are no validation images. Set "
            "--data.validation above 0, or take stop.patience away."
        )


def _loss(recipe: Recipe, train: ImageSet, engine: Engine) -> Loss:
    loss = recipe.loss
    if not isinstance(loss, LossSpec):
        return loss
    counts = torch.bincount(train.targets, minlength=len(train.classes))
    return _fitting(lambda: loss.build(counts, engine.device))


def _fitting(build: Callable[[], T]) -> T:
    """Return what `build` makes; that the parts do not fit is the recipe's fault."""
    try:
        return build()
    except ValueError as error:
        raise BadRecipe(f"{str(error)[0].upper()}{str(error)[1:]}.") from None


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
