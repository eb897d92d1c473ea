"""Healthy runs of many kinds: no alarm may be raised on any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from pellucid import Recipe, steps
from pellucid.augment.geometry import Crop, Flip
from pellucid.augment.mixing import MixUp
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.sampling import Balanced
from pellucid.loop import fit
from pellucid.models.init import Kaiming, Xavier
from pellucid.models.mlp import MLPSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.models.simple_cnn import SimpleCNNSpec
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Cosine, PlateauSpec, StepDecay
from pellucid.optim.specs import SGD, Adam, AdamW
from pellucid.recipe import EMASpec
from pellucid.values import ImageSet, Loaded, Progress, no_progress
from tests.checks.faults import part
from tests.checks.faults_run import Few, Observed, Setting, observe, same

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Healthy:
    """A run with nothing wrong in it: no alarm may be raised.

    Args:
        name: what is special about it.
        recipe: the setting -> the recipe.
    """

    name: str
    recipe: Callable[[Setting], Recipe]

    def run(self, setting: Setting) -> Observed:
        return observe(self.recipe(setting), same, fit)


@dataclass(frozen=True)
class Tanh:
    """A network with two hidden layers of tanh, in PyTorch's own initial weights."""

    act: type[nn.Module] = nn.Tanh

    def build(self, shape: Shape, classes: int) -> nn.Module:
        width = shape[0] * shape[1] * shape[2]
        return nn.Sequential(
            nn.Flatten(), nn.Linear(width, 64), self.act(), nn.Linear(64, 64), self.act(),
            nn.Linear(64, classes),
        )  # fmt: skip


@dataclass(frozen=True)
class Two:
    """Only the first two classes of a source."""

    source: Few

    validation: float = 0.25
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        loaded = self.source.load(progress)
        return replace(loaded, train=self._two(loaded.train), test=None)

    def _two(self, data: ImageSet) -> ImageSet:
        return replace(data.part((data.targets < 2).nonzero().flatten()), classes=data.classes[:2])


def few(shares: tuple[int, ...] = (10,) * 10, **keys: Any) -> Callable[[Setting], Few]:
    """Return the setting's data with so many tenths of its images of each class."""
    return lambda s: Few(s.source, tuple(s.per_class * n // 10 for n in shares), s.seed, **keys)


def crops(s: Setting) -> Recipe:
    return s.recipe(augment=AugmentSpec(flip=Flip(), crop=Crop(padding=3)))


MILD = (20, 18, 16, 14, 12, 10, 10, 8, 8, 8)
UNEVEN = (20, 20, 20, 10, 10, 10, 10, 10, 8, 8)

HEALTHY = [
    Healthy("plain", Setting.recipe),
    Healthy("SGD with momentum", part(optimizer=SGD(lr=0.05))),
    Healthy("SGD without momentum",
            part(optimizer=SGD(lr=0.1, momentum=0.0, nesterov=False))),
    Healthy("AdamW, cosine, warm-up, dropout", lambda s: s.recipe(
        optimizer=AdamW(lr=3e-3), schedule=Cosine(warmup=0.1), model=s.model(dropout=0.25))),
    Healthy("dropout of a half", lambda s: s.recipe(model=s.model(dropout=0.5))),
    Healthy("label smoothing", part(loss=CrossEntropy(label_smoothing=0.1))),
    Healthy("flips and crops", crops),
    Healthy("mixup", part(augment=AugmentSpec(mixup=MixUp()))),
    Healthy("average of weights", part(ema=EMASpec(decay=0.98))),
    Healthy("classes of 2.5 : 1", lambda s: s.recipe(data=few(MILD)(s))),
    Healthy("class weights", lambda s: s.recipe(
        data=few(UNEVEN)(s), loss=CrossEntropy(class_weights="balanced"))),
    Healthy("balanced sampling", lambda s: s.recipe(data=few(UNEVEN)(s), sampling=Balanced())),
    Healthy("two classes", lambda s: s.recipe(data=Two(few()(s)), length=steps(s.steps // 2))),
    Healthy("a tenth of the images, a short run", lambda s: s.recipe(
        data=few((1,) * 10)(s), length=steps(40))),
    Healthy("twenty steps", part(length=steps(20))),
    Healthy("four times as long", lambda s: s.recipe(
        length=steps(4 * s.steps), augment=AugmentSpec(crop=Crop(padding=3)),
        model=s.model(dropout=0.25))),
    Healthy("without validation", lambda s: s.recipe(data=few(validation=0.0)(s))),
    Healthy("MLP", part(model=MLPSpec())),
    Healthy("MLP, one hidden layer", part(model=MLPSpec(hidden=(64,)), optimizer=SGD(lr=0.02))),
    Healthy("tanh", part(model=Tanh())),
    Healthy("sigmoid, two layers, Adam", part(model=Tanh(nn.Sigmoid), optimizer=Adam(lr=5e-3))),
    Healthy("ResNet-8, SGD, cosine", part(
        model=ResNetSpec(depth=8, width=8), optimizer=SGD(lr=0.1), schedule=Cosine(warmup=0.1))),
    Healthy("ResNet-8, Adam", part(model=ResNetSpec(depth=8, width=8))),
    Healthy("simple-cnn", part(model=SimpleCNNSpec())),
    Healthy("clipped gradients", part(max_grad_norm=1.0)),
    Healthy("four pieces a step", part(accumulate=4)),
    Healthy("batches of 8", part(batch_size=8)),
    Healthy("batches of 256", lambda s: s.recipe(batch_size=256, length=steps(s.steps // 2))),
    Healthy("step decay", part(schedule=StepDecay(epochs=1, gamma=0.5))),
    Healthy("plateau", part(schedule=PlateauSpec(patience=1))),
    Healthy("Kaiming weights", part(init=Kaiming())),
    Healthy("Xavier weights", part(init=Xavier())),
]  # fmt: skip
