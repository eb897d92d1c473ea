"""A subject for each kind of model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.data.digits import Digits
from pellucid.models.mlp import MLP
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.resnet import ResNet
from pellucid.models.simple_cnn import SimpleCNN
from pellucid.seeds import generator, reseed
from pellucid.values import ImageSet, Splits
from pellucid.views.subject import Subject
from tests.models.conftest import KEPT as KEPT  # lets timm be imported on a CPU-only PyTorch


class Own(nn.Module):
    """A user's own: functional calls, a pool with an odd size, ReLU in place, no name for it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 5)
        self.second = nn.Conv2d(6, 8, 3, stride=2, bias=False)
        self.out = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        x = F.relu(self.second(F.avg_pool2d(x, 3)))
        logits: Tensor = self.out(x.mean((2, 3)))
        return logits


def digits() -> ImageSet:
    data = Digits().load().train
    return data.part(torch.arange(0, 5000, 125))  # 40 of all classes


def in_colour(data: ImageSet, size: int) -> ImageSet:
    """The digits as colour images of another size."""
    images = F.interpolate(data.pixels(torch.arange(len(data))).float(), size=(size, size))
    draws = torch.rand(1, 3, 1, 1, generator=generator(0, "colour"))
    pixels = (images * draws).round().to(torch.uint8)
    return ImageSet.of(pixels, data.targets, data.classes, "colour")


def splits(data: ImageSet) -> Splits:
    return Splits(data, data, data.part(torch.arange(0)))


def timm_model() -> nn.Module:
    import timm

    model: nn.Module = timm.create_model("test_efficientnet", num_classes=10)
    return model


def vit() -> nn.Module:
    import timm

    model: nn.Module = timm.create_model("test_vit", num_classes=10, img_size=64)
    return model


KINDS = {
    "own": (lambda: Own(), 1, 28),
    "mlp": (lambda: MLP((1, 28, 28), 10), 1, 28),
    "mnist-cnn": (lambda: MnistCNN((1, 28, 28), 10), 1, 28),
    "simple-cnn": (lambda: SimpleCNN((3, 32, 32), 10), 3, 32),
    "resnet": (lambda: ResNet((3, 32, 32), 10, depth=8, width=4), 3, 32),
    "timm": (timm_model, 3, 64),
    "vit": (vit, 3, 64),
}


def subject_of(kind: str) -> Subject:
    """A fresh model of each kind as a subject, with 40 images."""
    build, channels, size = KINDS[kind]
    reseed(0, "init")
    data = digits() if channels == 1 else in_colour(digits(), size)
    return Subject.of(build(), splits(data))
