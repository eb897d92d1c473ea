"""Small sets of real images, and recipes on them that differ in everything."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pellucid import Recipe, epochs, notes, steps
from pellucid.augment.colour import Brightness, Contrast, Greyscale, Hue, Saturation
from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.geometry import Crop, Flip, Rotate, Scale, Translate
from pellucid.augment.mixing import CutMix, MixUp
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.digits import Digits
from pellucid.data.folder import Folder
from pellucid.data.known import FashionMnist, Mnist
from pellucid.data.sampling import Balanced, Hard
from pellucid.data.table import Csv
from pellucid.engine import EngineSpec
from pellucid.models.fast_cnn import FastCNNSpec
from pellucid.models.init import Bad, Kaiming, Xavier
from pellucid.models.mlp import MLPSpec
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.models.simple_cnn import SimpleCNNSpec
from pellucid.models.whitening import Whitening
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import (
    Cosine,
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    PlateauSpec,
    StepDecay,
)
from pellucid.optim.specs import SGD, Adagrad, Adam, AdamW, Muon, RMSprop
from pellucid.plan import Duration
from pellucid.recipe import EMASpec, RecordSpec
from pellucid.recipes.named import named
from pellucid.stopping import StopSpec
from tests.conftest import FewDigits


def small_sets(root: Path) -> Path:
    """Write a few hundred digits below `root`, in each form that data can have."""
    loaded = Digits().load()
    assert loaded.test is not None
    pixels, labels = loaded.train.images[:, 0].numpy(), loaded.train.labels.numpy()
    idx = {
        "train-images-idx3-ubyte": pixels[:310],
        "train-labels-idx1-ubyte": labels[:310].astype(np.uint8),
        "t10k-images-idx3-ubyte": loaded.test.images[:60, 0].numpy(),
        "t10k-labels-idx1-ubyte": loaded.test.labels[:60].numpy().astype(np.uint8),
    }
    for name, array in idx.items():
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        content = head + array.tobytes()
        for file, data in (
            (root / "mnist" / f"{name}.gz", gzip.compress(content)),
            (root / "FashionMNIST/raw" / name.replace("-idx", ".idx"), content),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    _colours(root / "colours", pixels, labels)
    _parts(root / "parts", pixels, labels)
    _table(root / "table", pixels, labels)
    return root


def _colours(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Three kinds of coloured images of several sizes, not split."""
    for i in range(240):
        if labels[i] < 3:
            place = folder / ("zéro", "one", "two")[labels[i]] / ("deep" if i % 2 else ".")
            place.mkdir(parents=True, exist_ok=True)
            tint = np.array([1.0, 0.3 + 0.2 * (i % 3), 0.9 - 0.1 * (i % 5)])
            image = Image.fromarray((pixels[i][..., None] * tint).astype(np.uint8))
            image.resize((20 + i % 9, 24)).save(place / f"{i}.png")
    (folder / ".hidden").mkdir()
    (folder / "one/.DS_Store").write_bytes(b"junk")
    (folder / "one/Thumbs.db").write_bytes(b"junk")


def _parts(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Grey images in parts of their own, one file of them no image."""
    for i in range(300):
        if labels[i] < 2:
            part = ("train", "train", "train", "val", "test")[i % 5]
            place = folder / part / str(labels[i])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i]).save(place / f"{i}.{('png', 'bmp')[i % 2]}")
    (folder / "train/0/broken.png").write_bytes(b"no image")


def _table(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Photographs in JPEG in one folder, named by tables: without parts, and with a test part."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for i in range(120):
        if labels[i] in (1, 10 - 1, 4):
            Image.fromarray(pixels[i]).save(folder / f"images/{i}.jpg")
            rows.append((f"images/{i}.jpg", labels[i], "test" if i % 4 == 0 else "train"))
    plain = "path, label\n" + "".join(f"{path}, {label}\n" for path, label, _ in rows)
    (folder / "plain.csv").write_text(plain + f"./{rows[0][0]},{rows[0][1]}\n", encoding="utf-8")
    split = "".join(f"{p.partition('/')[2]},digit {n},{part},x\n" for p, n, part in rows)
    (folder / "split.csv").write_text("\ufeffpath,label,split,other\n" + split, encoding="utf-8")


def plain(data: object) -> Recipe:
    """Return a recipe of few steps with nothing on."""
    return notes("mnist").with_(
        data=data,
        length=steps(12),
        evaluate=Duration.parse("4 steps"),
        batch_size=32,
        record=RecordSpec(every=10, snapshots=0),
    )


RECIPES: dict[str, Callable[[Path], Recipe]] = {
    "adam, constant, all off, no validation, half an epoch": lambda root: plain(
        Digits(validation=0.0)
    ).with_(
        model=MLPSpec(hidden=(16,)),
        length=Duration.parse("0.1 epochs"),
        evaluate=Duration.parse("0 steps"),
    ),
    "adamw, cosine with warm-up, dropout, average": lambda root: plain(Mnist(root=str(root))).with_(
        model=MnistCNNSpec(dropout=0.25),
        optimizer=AdamW(lr=3e-3),
        schedule=Cosine(warmup=0.2, floor=0.1),
        augment=AugmentSpec(flip=Flip(), crop=Crop(padding=2)),
        ema=EMASpec(decay=0.9),
        length=epochs(2),
        evaluate=epochs(1),
    ),
    "sgd, step, accumulation, pairs mixed, norm clipped": lambda root: plain(
        Mnist(root=str(root), validation=0.2)
    ).with_(
        model=MLPSpec(hidden=(24, 16), dropout=0.1),
        init=Xavier(),
        optimizer=SGD(lr=0.1),
        schedule=StepDecay(epochs=1, gamma=0.5),
        augment=AugmentSpec(
            crop=Crop(padding=1), scale=Scale(range=(0.7, 1.2)), mixup=MixUp(p=0.8), cutmix=CutMix()
        ),
        loss=CrossEntropy(label_smoothing=0.1),
        max_grad_norm=0.5,
        accumulate=3,
        batch_size=33,
        seed=3,
    ),
    "sgd without momentum, multistep, l1, balanced": lambda root: plain(
        FashionMnist(root=str(root))
    ).with_(
        model=SimpleCNNSpec(dropout=0.2),
        init=Kaiming(),
        sampling=Balanced(),
        optimizer=SGD(lr=0.05, momentum=0.0, nesterov=False, weight_decay=0.0, l1=1e-3),
        schedule=MultiStep(milestones=(1,), gamma=0.2, warmup=0.1),
        loss=CrossEntropy(class_weights="balanced"),
        batch_size=40,
        accumulate=2,
    ),
    "adagrad, exponential, one sampling of all maps, weights by hand": lambda root: plain(
        Mnist(root=str(root))
    ).with_(
        model=MLPSpec(hidden=(16,)),
        optimizer=Adagrad(lr=0.02, weight_decay=1e-3),
        schedule=Exponential(gamma=0.7),
        augment=AugmentSpec(rotate=Rotate(), translate=Translate(), scale=Scale()),
        loss=CrossEntropy(
            label_smoothing=0.05, class_weights=(1.0, 2.0, 1.0, 0.5, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0)
        ),
        seed=7,
    ),
    "rmsprop, linear, hidden parts, numbers clipped, bad start": lambda root: plain(
        Mnist(root=str(root))
    ).with_(
        init=Bad(std=0.05),
        optimizer=RMSprop(lr=1e-3, momentum=0.5, l1=1e-4, weight_decay=1e-3),
        schedule=Linear(floor=0.2),
        augment=AugmentSpec(erase=Erase(p=0.6), cutout=Cutout(side=9)),
        max_grad_value=0.01,
        max_grad_norm=2.0,
    ),
    "adam, all colours, on a folder": lambda root: plain(
        Folder(path=str(root / "colours"), validation=0.2, test=0.2, size=16)
    ).with_(
        model=SimpleCNNSpec(dropout=0.1),
        optimizer=Adam(lr=3e-3, weight_decay=1e-2),
        augment=AugmentSpec(
            flip=Flip(),
            brightness=Brightness(),
            contrast=Contrast(),
            saturation=Saturation(),
            hue=Hue(strength=0.2),
            greyscale=Greyscale(p=0.3),
        ),
        batch_size=16,
    ),
    "muon, plateau, average of normalised layers, parts of its own": lambda root: plain(
        Folder(path=str(root / "parts"), skip_unreadable=True)
    ).with_(
        model=ResNetSpec(depth=8, width=16, dropout=0.1),
        optimizer=Muon(lr=5e-3),
        schedule=PlateauSpec(patience=0, factor=0.5, warmup=0.1, threshold=0.2),
        ema=EMASpec(decay=0.8),
        evaluate=steps(2),
        batch_size=16,
    ),
    "muon, early stop, on a table": lambda root: plain(
        Csv(path=str(root / "table/plain.csv"), validation=0.2, test=0.1)
    ).with_(
        model=MnistCNNSpec(dropout=0.5),
        optimizer=Muon(lr=0.05, l1=1e-3),
        stop=StopSpec(patience=2, min_change=0.3),
        evaluate=steps(1),
        length=steps(40),
        batch_size=16,
    ),
    "sgd, one cycle, a table with a test part": lambda root: plain(
        Csv(path=str(root / "table/split.csv"), images_root=str(root / "table/images"))
    ).with_(
        model=MLPSpec(hidden=()),
        optimizer=SGD(lr=0.05, nesterov=False),
        schedule=OneCycle(),
        stop=StopSpec(patience=5, watch="accuracy"),
        engine=EngineSpec(deterministic=True),
        batch_size=16,
    ),
    "adamw, pooled network for short runs, a rate of its own for biases": lambda root: plain(
        Mnist(root=str(root))
    ).with_(
        model=FastCNNSpec(
            widths=(8, 16, 16),
            strides=(1, 2, 2),
            pool=True,
            activation="silu",
            norm_scale=False,
            logit_scale=0.5,
        ),
        optimizer=AdamW(lr=6e-3, betas=(0.9, 0.99), norm_bias_lr=8.0),
        augment=AugmentSpec(crop=Crop(padding=2), rotate=Rotate(), scale=Scale()),
        schedule=Cosine(warmup=0.1),
        loss=CrossEntropy(label_smoothing=0.1),
        ema=EMASpec(decay=0.9),
    ),
    "the recipe fast: whitened first filters, hard rounds, bf16": lambda root: named(
        "fast", "mnist"
    ).with_(
        data=Mnist(root=str(root)),
        length=Duration.parse("2.5 epochs"),
        evaluate=Duration.parse("4 steps"),
        batch_size=32,
        max_grad_norm=0.5,
        record=RecordSpec(every=10, snapshots=0),
    ),
    "alternating flips, lookahead, hard rounds in pieces": lambda root: plain(
        Mnist(root=str(root))
    ).with_(
        model=FastCNNSpec(
            widths=(24, 16, 16), strides=(1, 2, 2), kernel=2, pool=True, norm_scale=False
        ),
        init=Whitening(identity=False, eps=1e-2),
        sampling=Hard(share=0.5, hardest=0.1),
        augment=AugmentSpec(flip=Flip(alternate=True)),
        optimizer=SGD(lr=0.02, weight_decay=1e-3, l1=1e-4, norm_bias_lr=8.0),
        ema=EMASpec(decay=0.8, every=2, pull=True, growth=3.0),
        accumulate=2,
        length=epochs(2),
    ),
    "adamw in bf16 where it passes": lambda root: plain(Mnist(root=str(root))).with_(
        optimizer=AdamW(),
        engine=EngineSpec(precision="bf16"),
        schedule=Cosine(),
        ema=EMASpec(decay=0.9),
        max_grad_norm=1.0,
        accumulate=2,
    ),
    "arrays of a source from Python": lambda root: plain(FewDigits()).with_(
        augment=AugmentSpec(mixup=MixUp(alpha=1.0)), batch_size=10
    ),
}
