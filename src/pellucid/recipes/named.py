"""Draft."""

from pellucid.recipe import Recipe, EMASpec
from pellucid.data.digits import Digits
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.augment.pipeline import AugmentSpec
from pellucid.augment.geometry import Crop, Flip
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.specs import SGD, Adam, AdamW
from pellucid.optim.schedules import Constant, Cosine
from pellucid.plan import epochs


def good(data, **k):
    return Recipe(
        data=Digits(),
        model=MnistCNNSpec(dropout=0.25),
        augment=AugmentSpec(crop=Crop(2)),
        loss=CrossEntropy(),
        optimizer=AdamW(lr=3e-3),
        schedule=Cosine(warmup=0.1),
        length=epochs(10),
    )


def notes(data): ...
