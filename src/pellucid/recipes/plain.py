"""The plain recipes, one for each data: `good`, the best of them, and `notes`, the textbook one."""

from __future__ import annotations

from typing import Any

from pellucid.augment.geometry import Crop, Flip
from pellucid.augment.pipeline import AugmentSpec
from pellucid.catalogue import spec
from pellucid.data.sampling import Shuffled
from pellucid.errors import BadRecipe
from pellucid.models.init import Default
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.models.simple_cnn import SimpleCNNSpec
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Constant, Cosine
from pellucid.optim.specs import SGD, Adam, AdamW
from pellucid.plan import epochs
from pellucid.recipe import Recipe, RecordSpec
from pellucid.values import DataSource


def good(data: str) -> Recipe:
    """Return our best plain recipe for `data`; unknown data gets that of an image folder.

    What was measured on two cores with PyTorch 2.13, best checkpoint by validation, test images:

    - `pellucid train digits --seed S`: mean 98.52 % over seeds 0 to 4 (98.4 to 98.6; test n =
      1,000), about 20 s of wall time, imports included.
    - `pellucid train mnist --seed S`: mean 99.42 % over seeds 0 to 2 (99.39, 99.40, 99.48; test n
      = 10,000; 54,000 training images).

    - `pellucid train fashion-mnist`: 92.69 % with seed 0 (test n = 10,000; 54,000 training images),
      15 epochs, 8 minutes on one thread beside other work.
    - `pellucid train cifar10`: 81.72 % with seed 0 (JPEG copies of the images; test n = 10,000;
      45,000 training images), 12 epochs, 26 minutes on one thread beside other work.
    - An image folder, here 4,317 photos of flowers in 5 classes, at 64 pixels: 66.28 % with seed 0
      (test n = 430), 20 epochs, 20 minutes on one thread beside other work.

    The last three are readings of one seed, no promise.

    >>> good("digits").batch_size
    128
    """
    if data in ("digits", "mnist"):
        return Recipe(
            data=source(data),
            model=MnistCNNSpec(dropout=0.25),
            init=Default(),
            sampling=Shuffled(),
            augment=AugmentSpec(crop=Crop(padding=2)),
            loss=CrossEntropy(),
            optimizer=AdamW(lr=3e-3),
            schedule=Cosine(warmup=0.1),
            length=epochs(10 if data == "digits" else 8),
            record=RecordSpec(every=20 if data == "digits" else 100),
        )
    if data == "fashion-mnist":
        return Recipe(
            data=source(data),
            model=MnistCNNSpec(dropout=0.25),
            init=Default(),
            sampling=Shuffled(),
            augment=AugmentSpec(flip=Flip(), crop=Crop(padding=2)),
            loss=CrossEntropy(),
            optimizer=AdamW(lr=3e-3),
            schedule=Cosine(warmup=0.1),
            length=epochs(15),
            record=RecordSpec(every=100),
        )
    return _photographs(data)


def _photographs(data: str) -> Recipe:
    """Return the recipe for colour images: a small residual network, flips and shifts."""
    small = data in ("cifar10", "cifar100")
    return Recipe(
        data=source(data),
        model=ResNetSpec(depth=14, width=16),
        init=Default(),
        sampling=Shuffled(),
        augment=AugmentSpec(flip=Flip(), crop=Crop(padding=4)),
        loss=CrossEntropy(),
        optimizer=SGD(lr=0.1 if small else 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=Cosine(warmup=0.1),
        batch_size=128 if small else 64,
        length=epochs(12 if small else 20),
        record=RecordSpec(every=100 if small else 20),
    )


def notes(data: str) -> Recipe:
    """Return the textbook recipe: Adam at 0.001, constant, batches of 128, nothing else.

    The MNIST CNN for grey digits and clothes, 12 epochs; the three-convolution SimpleCNN for
    everything else, 10 epochs.

    `pellucid train mnist --recipe notes --seed S`: mean 99.15 % over seeds 0 to 2 (99.00, 99.26,
    99.18; test n = 10,000; 54,000 training images).

    `pellucid train digits --recipe notes --seed S`: mean 97.66 % over seeds 0 to 4 (96.7 to 98.3;
    test n = 1,000), about a minute on one thread. With seed 0 and n = 10,000 each: `fashion-mnist`
    92.43 %, 5 minutes; `cifar10` (JPEG copies) 70.66 %, 3.5 minutes, on one thread each.

    >>> str(notes("mnist").length)
    '12 epochs'
    """
    grey = data in ("digits", "mnist", "fashion-mnist")
    return Recipe(
        data=source(data),
        model=MnistCNNSpec() if grey else SimpleCNNSpec(),
        init=Default(),
        sampling=Shuffled(),
        augment=AugmentSpec(),
        loss=CrossEntropy(),
        optimizer=Adam(lr=1e-3),
        schedule=Constant(),
        length=epochs(12 if grey else 10),
        record=RecordSpec(every=100),
    )


def none_for(data: str, recipe: str, there: tuple[str, ...]) -> BadRecipe:
    """Return the error for data that has no recipe `recipe`, which is only `there`."""
    return BadRecipe(
        f'There is a recipe {recipe} for {", ".join(there)}, not for "{data}". For all data there '
        "are good and notes."
    )


def source(data: str) -> DataSource:
    """Return the source with its defaults; folder and table still lack their place."""
    kind: Any = spec("data", data)
    made: DataSource = kind(path="") if data in ("folder", "csv") else kind()
    return made
