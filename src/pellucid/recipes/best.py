"""The recipe `best`: as good as one small network gets here, however long it takes."""

from __future__ import annotations

from pellucid.augment.geometry import Crop, Rotate, Scale
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.known import Mnist
from pellucid.data.sampling import Shuffled
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe
from pellucid.models.fast_cnn import FastCNNSpec
from pellucid.models.init import Default
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Cosine
from pellucid.optim.specs import AdamW
from pellucid.plan import epochs
from pellucid.recipe import EMASpec, Recipe, RecordSpec

BEST = ("mnist",)
"""The data for which there is one."""


def best(data: str) -> Recipe:
    """Return a recipe for the best accuracy of one network of at most 310,000 parameters.

    MEASURED

    Raises:
        BadRecipe: if there is none for this data.

    >>> best("mnist").length
    Duration.parse("24 epochs")
    """
    if data == "mnist":
        return Recipe(
            data=Mnist(validation=0.05),
            model=FastCNNSpec(
                widths=(32, 32, 64, 64, 128, 128), strides=(1, 2, 1, 2, 1, 1), pool=True,
                activation="silu",
            ),
            init=Default(),
            sampling=Shuffled(),
            augment=AugmentSpec(
                crop=Crop(padding=2), rotate=Rotate(degrees=12), scale=Scale(range=(0.9, 1.1))
            ),
            loss=CrossEntropy(label_smoothing=0.1),
            optimizer=AdamW(lr=6e-3, betas=(0.9, 0.99), weight_decay=0.05),
            schedule=Cosine(warmup=0.1),
            ema=EMASpec(decay=0.998),
            length=epochs(24),
            engine=EngineSpec(precision="bf16"),
            record=RecordSpec(every=100),
        )  # fmt: skip
    raise BadRecipe(
        f'There is a recipe best for {", ".join(BEST)}, not for "{data}". For all data there are '
        "good and notes."
    )
