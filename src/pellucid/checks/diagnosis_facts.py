"""What a diagnosis rests on: facts of recipe and data, the course of the run; and its findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.sampling import Balanced
from pellucid.plan import Plan
from pellucid.recipe import Recipe
from pellucid.values import ImageSet, Splits, Staged

Row = dict[str, Any]
Severity = Literal["note", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed about a run.

    Args:
        name: fixed, for programs: `lr-too-high`.
        severity: a `note` is information; a `warning` says that something is probably wrong.
        sentence: what was seen, in plain words and with the numbers.
        numbers: those that led to it.
        advice: what to try.
    """

    name: str
    severity: Severity
    sentence: str
    numbers: Mapping[str, float | int | str]
    advice: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.name}: {self.sentence} Try: {self.advice}"


@dataclass(frozen=True)
class Agreement:
    """How labels agree with what something else says about the same images.

    A relabelling is looked for in one half of the images and judged on the other, so that it
    gains nothing by chance.

    Args:
        n: images that are judged: the second half.
        as_is: share of them whose label is what is said.
        relabelled: likewise, with each class named as the first half of the images suggests.
        chance: agreement of labels that have nothing to do with the images.
        example: a pair of names: the label, and what images with that label are taken for.
    """

    n: int
    as_is: float
    relabelled: float
    chance: float
    example: tuple[str, str] = ("", "")

    @property
    def error(self) -> float:
        """Two standard errors of a share of chance size."""
        return 2 * math.sqrt(self.chance * (1 - self.chance) / self.n) if self.n else 1.0


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What the images themselves say, before any training.

    Args:
        shared: (part, other part, images of the first whose very pixels are in the other, images
            of the first).
        conflicts: training images that have a twin, pixel by pixel, with another label.
        train: labels of training images against those of their nearest neighbours.
        validation: labels of validation images against those of the nearest training images.
    """

    shared: tuple[tuple[str, str, int, int], ...] = ()
    conflicts: int = 0
    train: Agreement | None = None
    validation: Agreement | None = None


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What loss, batches and preparation do, tried out before any training.

    Args:
        floor: the lowest loss of right answers, however sure.
        floor_expected: that of cross-entropy with the recipe's label smoothing.
        doubling: the loss of a batch that is given twice, divided by that of the batch: 1 for a
            mean, 2 for a sum.
        unrepeatable: the largest difference between two preparations of the same images for
            evaluation.
        train_input: mean and standard deviation of images as the network gets them in training.
        evaluation_input: of the same images as it gets them in evaluation.
        together: share of pairs of images within a batch that have the same label.
        together_expected: in shuffled batches.
        follow: how far targets follow the images of the first batches, as the network gets them: 1
            where the original that an image looks most like always has its target as label, 0 for
            chance; nan where targets are mixed.
        follow_error: two standard errors of it.
        seen: images in those batches.
    """

    floor: float
    floor_expected: float
    doubling: float
    unrepeatable: float
    train_input: tuple[float, float]
    evaluation_input: tuple[float, float]
    together: float
    together_expected: float
    follow: float
    follow_error: float
    seen: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a run besides its rows.

    Args:
        classes: names.
        train: images of each class; likewise `validation` and `test`.
        optimizer: name; likewise `schedule`.
        lr: the full learning rate.
        batch_size: images per step.
        steps: planned.
        steps_per_epoch: in which each training image is seen once.
        augmented: whether training images are changed at random.
        smoothing: label smoothing of the loss, in [0, 1).
        evened: whether rare classes count more, by weights or by sampling.
        frozen: starts of the names of layers that the recipe freezes on purpose.
        data: what the images say.
        task: what loss, batches and preparation do.
        judged: labels of the validation images against the predictions of the finished run.
    """

    classes: tuple[str, ...]
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...] = ()
    optimizer: str = ""
    schedule: str = ""
    lr: float
    batch_size: int
    steps: int
    steps_per_epoch: int
    augmented: bool = False
    smoothing: float = 0.0
    evened: bool = False
    frozen: tuple[str, ...] = ()
    data: DataFacts | None = None
    task: TaskFacts | None = None
    judged: Agreement | None = None

    @property
    def uniform(self) -> float:
        """ln C: the loss, in nats, of a network that holds all classes for equally likely."""
        return math.log(len(self.classes))

    @property
    def blind(self) -> float:
        """The loss that needs no image: of always answering the classes' shares."""
        total = sum(self.train)
        return -sum(n / total * math.log(n / total) for n in self.train if n)

    @property
    def guess(self) -> float:
        """The validation accuracy that needs no image: of always answering the largest class."""
        return max(self.validation, default=0) / max(sum(self.validation), 1)


def facts_of(
    recipe: Recipe,
    splits: Splits,
    plan: Plan,
    model: nn.Module,
    data: DataFacts | None = None,
    task: TaskFacts | None = None,
) -> Facts:
    """Return the facts of a recipe that was made real."""
    augment = recipe.augment
    return Facts(
        classes=splits.train.classes,
        train=counts(splits.train),
        validation=counts(splits.validation),
        test=counts(splits.test),
        optimizer=type(recipe.optimizer).__name__.lower(),
        schedule=type(recipe.schedule).__name__.lower(),
        lr=recipe.optimizer.lr,
        batch_size=recipe.batch_size,
        steps=plan.steps,
        steps_per_epoch=plan.steps_per_epoch,
        augmented=not (isinstance(augment, AugmentSpec) and not augment.operations()),
        smoothing=float(getattr(recipe.loss, "label_smoothing", 0.0)),
        evened=isinstance(recipe.sampling, Balanced)
        or getattr(recipe.loss, "class_weights", "none") != "none",
        frozen=frozen(model),
        data=data,
        task=task,
    )


def frozen(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the parts that the recipe itself keeps from training for a while."""
    if not isinstance(model, Staged) or model.freeze_epochs <= 0:
        return ()
    parts = model.backbone()
    return tuple(name for name, part in model.named_modules() if any(part is p for p in parts))


def counts(data: ImageSet) -> tuple[int, ...]:
    """Return the number of images of each class."""
    return tuple(data.targets.bincount(minlength=len(data.classes)).tolist())


@dataclass(frozen=True)
class Course:
    """The rows of a run so far, by kind.

    Args:
        rows: of `metrics.jsonl`, in order.
        diverged: the step whose loss was no number, if that ended the run.
    """

    rows: Sequence[Row]
    diverged: int | None = None
    steps: list[Row] = field(init=False)
    evaluations: list[Row] = field(init=False)
    vitals: list[Row] = field(init=False)

    def __post_init__(self) -> None:
        for name, kind in (("steps", "step"), ("evaluations", "evaluation"), ("vitals", "vitals")):
            object.__setattr__(self, name, [row for row in self.rows if row["kind"] == kind])

    @property
    def first(self) -> Row | None:
        """The vital signs before the first step."""
        return self.vitals[0] if self.vitals and self.vitals[0]["step"] == 0 else None

    @property
    def last(self) -> Row | None:
        """The newest vital signs after at least one step."""
        return self.vitals[-1] if self.vitals and self.vitals[-1]["step"] else None

    @property
    def done(self) -> int:
        """Steps done."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def losses(self, part: str) -> list[float]:
        """Return the losses of all evaluations of `part`, `train` or `validation`."""
        return [float(row[part]["loss"]) for row in self.evaluations if row[part]]
