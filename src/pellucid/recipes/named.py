"""The named recipes: `good`, a plain one for each data; `notes`, the textbook one; `fast`."""

from __future__ import annotations

from typing import Any

from pellucid.augment.geometry import Crop, Flip
from pellucid.augment.pipeline import AugmentSpec
from pellucid.catalogue import spec
from pellucid.data.sampling import Hard, Shuffled
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe, did_you_mean, nearest
from pellucid.models.fast_cnn import FastCNNSpec
from pellucid.models.init import Default
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.models.simple_cnn import SimpleCNNSpec
from pellucid.models.whitening import Whitening
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Constant, Cosine, Linear
from pellucid.optim.specs import SGD, Adam, AdamW
from pellucid.plan import Duration, epochs
from pellucid.recipe import Recipe, RecordSpec
from pellucid.values import DataSource

NAMES = ("good", "notes", "fast")
FAST = ("mnist", "cifar10")
"""The data for which there is a recipe `fast`."""


def offered(data: str) -> tuple[str, ...]:
    """Return the names of the recipes that there are for `data`.

    >>> offered("mnist"), offered("digits")
    (('good', 'notes', 'fast'), ('good', 'notes'))
    """
    return NAMES if data in FAST else NAMES[:2]


def named(recipe: str, data: str) -> Recipe:
    """Return the recipe `recipe` (`good`, `notes` or `fast`) for the data `data`.

    Raises:
        BadRecipe: if there is no such recipe, or none for this data.

    >>> named("notes", "mnist").optimizer.lr
    0.001
    """
    if recipe == "good":
        return good(data)
    if recipe == "notes":
        return notes(data)
    if recipe == "fast":
        return fast(data)
    raise BadRecipe(
        f"A recipe is {', '.join(nearest(recipe, NAMES))}, or a file FILE.toml. "
        f'Got "{recipe}"{did_you_mean(recipe, NAMES) or "."}'
    )


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
            data=_source(data),
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
            data=_source(data),
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
        data=_source(data),
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
        data=_source(data),
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


def fast(data: str) -> Recipe:
    """Return a recipe for a short run: fewer images, lower precision, whitened first filters.

    `pellucid train mnist --recipe fast --seed S`: mean 99.46 % over seeds 0 to 9 (99.39 to 99.52;
    test n = 10,000; 54,000 training images), median 22.4 s on two cores with imports and test,
    where the notes' recipe by Lightning with torchvision takes 309 s (n = 1; `python -m benchmarks
    fast`). Settings were chosen by validation images alone.

    `pellucid train cifar10 --recipe fast`: 87.29 % with seed 0 (JPEG copies; test n = 10,000),
    458 s, where the notes' recipe by Lightning reaches 71.31 % in 235 s (n = 1 each). The network
    is that of airbench94 with narrower layers.

    Raises:
        BadRecipe: if there is none for this data.

    >>> str(fast("mnist").engine.precision)
    'bf16'
    """
    if data == "mnist":
        length = Duration.parse("1.75 epochs")
        return Recipe(
            data=_source(data),
            model=FastCNNSpec(pad_first=False, bias=False),
            init=Whitening(),
            sampling=Hard(share=0.25, hardest=0.2),
            augment=AugmentSpec(crop=Crop(padding=2)),
            loss=CrossEntropy(label_smoothing=0.05),
            optimizer=AdamW(lr=1e-2, betas=(0.9, 0.99)),
            schedule=Linear(warmup=0.2),
            length=length,
            evaluate=length,
            engine=EngineSpec(precision="bf16"),
            record=RecordSpec(every=100, checkpoint=length, snapshots=2),
        )
    if data == "cifar10":
        return Recipe(
            data=_source(data),
            model=FastCNNSpec(
                widths=(24, 64, 64, 128, 128, 256, 256), strides=(1, 2, 1, 2, 1, 2, 1), kernel=2,
                bias=False, pool=True, activation="silu", norm_scale=False, logit_scale=1 / 9,
            ),
            init=Whitening(),
            sampling=Shuffled(),
            augment=AugmentSpec(flip=Flip(), crop=Crop(padding=2)),
            loss=CrossEntropy(label_smoothing=0.2),
            optimizer=SGD(
                lr=0.75, momentum=0.85, nesterov=True, weight_decay=1.3e-3, norm_bias_lr=64.0
            ),
            schedule=Linear(warmup=0.23),
            length=epochs(8),
            evaluate=epochs(2),
            batch_size=512,
            engine=EngineSpec(precision="bf16"),
            record=RecordSpec(every=20, checkpoint=epochs(4), snapshots=2),
        )  # fmt: skip
    raise BadRecipe(
        f'There is a recipe fast for {", ".join(FAST)}, not for "{data}". For all data there '
        "are good and notes."
    )


def _source(data: str) -> DataSource:
    """Return the source with its defaults; folder and table still lack their place."""
    kind: Any = spec("data", data)
    source: DataSource = kind(path="") if data in ("folder", "csv") else kind()
    return source
