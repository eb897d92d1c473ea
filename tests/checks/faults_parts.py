"""Parts of a run with a classic bug in each: models, optimizers, data, preparation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.assemble import Assembled
from pellucid.augment.pipeline import AugmentSpec
from pellucid.models.init import Bad
from pellucid.optim.schedules import Constant, StepDecay
from pellucid.seeds import generator
from pellucid.values import ImageSet, Loaded, Progress, no_progress

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Around:
    """A model spec whose network is changed after it was built."""

    spec: Any
    change: Callable[[nn.Module], nn.Module]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return self.change(self.spec.build(shape, classes))


class StuckMode(nn.Module):
    """A network that stays in one mode, whatever it is told."""

    def __init__(self, inner: nn.Module, training: bool) -> None:
        super().__init__()
        self.inner = inner
        self.stuck = training
        self.train()

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(self.stuck if "stuck" in self.__dict__ else mode)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


class Before(nn.Module):
    """A network with something done to its input."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(self.change(x))
        return out


def reshaped(x: Tensor) -> Tensor:
    """Reshape where a transposition was meant: pixels of different images change places."""
    return x.flatten(1).t().reshape(x.shape[0], -1).reshape(x.shape)


def matrices(model: nn.Module) -> list[nn.Module]:
    """Return the layers with weight matrices, in order."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def all_but_last_frozen(model: nn.Module) -> nn.Module:
    for layer in matrices(model)[:-1]:
        layer.requires_grad_(False)
    return model


def first_detached(model: nn.Module) -> nn.Module:
    matrices(model)[0].register_forward_hook(lambda layer, given, out: out.detach())
    return model


def negative_biases(model: nn.Module) -> nn.Module:
    bias = matrices(model)[-2].bias
    assert isinstance(bias, Tensor)
    with torch.no_grad():
        bias.fill_(-30.0)
    return model


@dataclass(frozen=True)
class Sigmoids:
    """A deep network of sigmoids, with weights of one standard deviation."""

    std: float
    depth: int = 5

    def build(self, shape: Shape, classes: int) -> nn.Module:
        width = shape[0] * shape[1] * shape[2]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs in [width] + [64] * (self.depth - 1):
            layers += [nn.Linear(inputs, 64), nn.Sigmoid()]
        model = nn.Sequential(*layers, nn.Linear(64, classes))
        Bad(std=self.std).apply(model)
        return model


@dataclass(frozen=True)
class TooSmall:
    """A linear layer on one number a channel: the mean of the image."""

    def build(self, shape: Shape, classes: int) -> nn.Module:
        pool = nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(pool, nn.Flatten(), nn.Linear(shape[0], classes))


@dataclass(frozen=True)
class Zeros:
    """Initial weights that are all 0."""

    def apply(self, model: nn.Module) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()


@dataclass(frozen=True)
class LastLayerOnly:
    """An optimizer that was given the parameters of the last layer, and no others."""

    lr: float = 1e-3

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(matrices(model)[-1].parameters(), lr=self.lr)


@dataclass(frozen=True)
class Sorted:
    """Training images in the order of their classes."""

    def order(self, labels: Tensor, draws: torch.Generator) -> Tensor:
        return labels.argsort(stable=True)


@dataclass(frozen=True)
class PerBatch:
    """A decay that was meant once an epoch, and is done at each batch."""

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Callable[[int], float]:
        return StepDecay(epochs=1, gamma=0.7).build(lr, steps, steps_per_epoch=1)

    def plateau(self) -> Any:
        return Constant().plateau()


@dataclass(frozen=True)
class RawPixels:
    """Training images as they are stored, from 0 to 255; evaluation prepares them."""

    def build(self, seed: int, prepare: Any, classes: int, shape: Shape) -> Any:
        return lambda batch, step: batch.with_images(batch.images.float())


@dataclass(frozen=True)
class TargetsAstray:
    """An augmentation that reorders the images of a batch, and forgets their labels."""

    def build(self, seed: int, prepare: Any, classes: int, shape: Shape) -> Any:
        def augment(batch: Any, step: int) -> Any:
            order = torch.randperm(len(batch.images), generator=generator(seed, "astray", step))
            return batch.with_images(prepare(batch.images[order]))

        return augment


@dataclass(frozen=True)
class Changed:
    """A source whose parts are changed after loading."""

    source: Any
    change: Callable[[Loaded], Loaded]

    @property
    def validation(self) -> float:
        share: float = self.source.validation
        return share

    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        return self.change(self.source.load(progress))


def fresh(data: ImageSet, labels: Tensor) -> ImageSet:
    """Return the images of `data` with other labels."""
    return ImageSet.of(data.pixels(torch.arange(len(data))), labels, data.classes, data.name)


def shuffled_labels(loaded: Loaded) -> Loaded:
    labels = loaded.train.targets
    order = torch.randperm(len(labels), generator=generator(0, "shuffled labels"))
    return replace(loaded, train=fresh(loaded.train, labels[order]))


def leaking_test(loaded: Loaded) -> Loaded:
    train, test = loaded.train, loaded.test
    assert test is not None
    rows = torch.cat([train.rows, train.rows[:0]])
    images = torch.cat([train.images[rows], test.pixels(torch.arange(len(test)))])
    labels = torch.cat([train.targets, test.targets])
    return replace(loaded, train=ImageSet.of(images, labels, train.classes, train.name))


def doubled(loaded: Loaded) -> Loaded:
    """Each image twice, as by oversampling, before validation is split off."""
    twice = torch.arange(len(loaded.train)).repeat(2)
    return replace(loaded, train=loaded.train.part(twice))


def validation_off_by_one(loaded: Loaded) -> Loaded:
    train = loaded.train
    held = torch.arange(0, len(train), 4)
    kept = torch.ones(len(train), dtype=torch.bool)
    kept[held] = False
    part = train.part(held)
    wrong = fresh(part, (part.targets + 1) % len(train.classes))
    return replace(loaded, train=train.part(kept.nonzero().flatten()), validation=wrong)


def raw_everywhere(built: Assembled) -> Assembled:
    def prepare(images: Tensor) -> Tensor:
        return images.float()

    splits = built.splits
    augment = AugmentSpec().build(0, prepare, len(splits.train.classes), splits.train.shape)
    return replace(built, task=replace(built.task, prepare=prepare, augment=augment))


def evaluation_augmented(built: Assembled) -> Assembled:
    prepare = built.task.prepare

    def shifted(images: Tensor) -> Tensor:
        shifts = torch.randint(-3, 4, (len(images), 2)).tolist()
        moved = [image.roll(shift, (1, 2)) for image, shift in zip(images, shifts, strict=True)]
        return prepare(torch.stack(moved))

    return replace(built, task=replace(built.task, prepare=shifted))
