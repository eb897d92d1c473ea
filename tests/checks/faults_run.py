"""The short real run that a fault is planted in, watched as a caller of the loop watches it."""

from __future__ import annotations

import inspect
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid import Engine, Recipe, loop, steps
from pellucid.assemble import Assembled, assemble
from pellucid.augment.pipeline import AugmentSpec
from pellucid.checks.diagnosis import Facts, Finding
from pellucid.checks.diagnosis_data import agreement, look_at_data
from pellucid.checks.diagnosis_facts import facts_of
from pellucid.checks.diagnosis_task import look_at_task
from pellucid.checks.diagnosis_watch import Watch
from pellucid.data.sampling import Shuffled
from pellucid.errors import Diverged
from pellucid.evaluate import predict
from pellucid.models.init import Default
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Constant
from pellucid.optim.specs import Adam
from pellucid.plan import Duration
from pellucid.recipe import RecordSpec
from pellucid.seeds import generator
from pellucid.sinks.recorder import Recorder
from pellucid.values import Loaded, Progress, Step, no_progress

Row = dict[str, Any]
Loop = Callable[..., Iterator[Step]]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Few:
    """Some images of each class of a source, drawn by a seed; a quarter of them to validate on."""

    source: Any
    per_class: int | tuple[int, ...] = 60
    seed: int = 0
    validation: float = 0.25
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the chosen training images, and at most 200 test images."""
        loaded = self.source.load(progress)
        train, test = loaded.train, loaded.test
        classes = len(train.classes)
        wanted = (self.per_class,) * classes if isinstance(self.per_class, int) else self.per_class
        order = torch.randperm(len(train), generator=generator(self.seed, "few"))
        if test is None:  # the data brings none
            order, held = order[:-200], order[-200:]
            test = train.part(held)
        labels = train.label(order)
        taken = [order[labels == c][:n] for c, n in enumerate(wanted)]
        few = torch.arange(0, len(test), max(1, len(test) // 200))
        return Loaded(train.part(torch.cat(taken)), test=test.part(few))


class Net(nn.Module):
    """A small CNN with everything that faults need: two convolutions, two layers, dropout."""

    def __init__(self, shape: Shape, classes: int, dropout: float) -> None:
        super().__init__()
        side = shape[1] // 4
        self.conv1 = nn.Conv2d(shape[0], 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * side * side, 32)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits


@dataclass(frozen=True)
class NetSpec:
    """Names `Net` in a recipe."""

    dropout: float = 0.0

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return Net(shape, classes, self.dropout)


@dataclass(frozen=True)
class Setting:
    """What a fault is planted in.

    Args:
        name: of the data.
        source: of the images.
        model: a spec with dropout.
        seed: of the run, and of the choice of images.
        steps: length; five evaluations are spread over it.
    """

    name: str
    source: Any
    model: Any
    seed: int
    steps: int = 150
    per_class: int = 60

    def recipe(self, **changes: Any) -> Recipe:
        """Return the plain recipe: Adam at 0.001, constant, no augmentation."""
        recipe = Recipe(
            data=Few(self.source, self.per_class, self.seed),
            model=self.model(dropout=0.0),
            init=Default(),
            sampling=Shuffled(),
            augment=AugmentSpec(),
            loss=CrossEntropy(),
            optimizer=Adam(lr=1e-3),
            schedule=Constant(),
            length=steps(self.steps),
            evaluate=Duration.parse("20 percent"),
            batch_size=32,
            seed=self.seed,
            record=RecordSpec(every=10),
        )
        return recipe.with_(**changes)


@dataclass(frozen=True)
class Observed:
    """What a run left: its rows, the facts, and what was told during it and at its end."""

    rows: list[Row]
    facts: Facts
    told: list[Finding]
    diverged: int | None
    seconds: float

    def warnings(self) -> dict[str, Finding]:
        """Return the alarms by name."""
        return {f.name: f for f in self.told if f.severity == "warning"}


def observe(
    recipe: Recipe, spoil: Callable[[Assembled], Assembled], loop: Loop, until: str = ""
) -> Observed:
    """Train `recipe` with everything on that a real caller of the loop has on.

    Args:
        recipe: of the run.
        spoil: what is done to the run after it was assembled.
        loop: the loop.
        until: the run may end as soon as this warning has been told; to the end if empty.
    """
    began = time.perf_counter()
    engine = Engine.start(recipe.engine)
    built = spoil(assemble(recipe, engine))
    state, task, splits = built.state, built.task, built.splits
    data = look_at_data(splits)
    tried = look_at_task(task, splits.train, engine.device, _smoothing(recipe))
    facts = facts_of(recipe, splits, task.plan, state.model, data, tried)
    watch = Watch(state, task, facts, engine.device)
    rows = [watch.look()]
    told = watch.tell(rows)
    diverged = None
    warned = {f.name for f in told if f.severity == "warning"}
    with (
        tempfile.TemporaryDirectory() as folder,
        Recorder(
            Path(folder) / "m", Path(folder) / "t", recipe.record.every, lambda step: []
        ) as recorder,
    ):
        try:
            for step in loop(state, task, engine):
                if until in warned:
                    break
                rows += recorder(step)
                if step.evaluation:
                    rows.append(watch.look())
                    told += watch.tell(rows)
                    warned = {f.name for f in told if f.severity == "warning"}
        except Diverged as error:
            diverged = error.step
    if len(splits.validation):
        said = predict(engine, state.ema.model, splits.validation, task.prepare)
        judged = agreement(said.targets, said.labels, said.classes)
        watch.facts = facts = replace(facts, judged=judged)
    told += watch.tell(rows, diverged)
    return Observed(rows, facts, told, diverged, time.perf_counter() - began)


def _smoothing(recipe: Recipe) -> float:
    return float(getattr(recipe.loss, "label_smoothing", 0.0))


def same(built: Assembled) -> Assembled:
    """Change nothing."""
    return built


def fit_without(line: str) -> Loop:
    """Return the training loop with the lines left out that hold the text `line`."""
    kept = [text for text in inspect.getsource(loop).splitlines() if line not in text]
    assert len(kept) == len(inspect.getsource(loop).splitlines()) - 1, line
    space: dict[str, Any] = {}
    exec(compile("\n".join(kept), f"<the loop without {line}>", "exec"), space)  # our own source
    found: Loop = space["fit"]
    return found
