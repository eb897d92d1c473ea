"""Checks of the data, as the network gets it: nothing is trained, nothing is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from pellucid.assemble import Assembled
from pellucid.checks.check import Check, some
from pellucid.engine import Engine
from pellucid.task import Task
from pellucid.values import ImageSet, Splits

SAMPLE = 2000
"""Training images, at most, whose pixels are looked at."""
CHUNK = 250
"""Images that are prepared at once: bounds the memory."""
NEAR = 0.25
"""How far mean and standard deviation of the input may be from 0 and 1. They are measured on a
sample: if each image were one flat grey, 300 of them would still be within 0.06 two times of
three. Forgetting to normalise is outside: pixels in [0, 1] have a deviation of 0.2 to 0.35."""
FAR = 3.0
"""Bounds of the augmented input: deviation in [1/3, 3], mean in [-1, 1]. Crops, erasing and mixing
stay inside, pixels that were not normalised do not."""
BLANK = 0.01
"""From this share on, blank images are no accident."""
IMBALANCE = 10
"""The largest class may have up to this many times the images of the smallest."""


def data_checks(built: Assembled, engine: Engine) -> list[Check]:
    """Return what can be said of the data of `built` without a model."""
    splits = built.splits
    sample = spread(splits.train, SAMPLE)
    return [
        labels(splits),
        classes(splits),
        balance(splits.train),
        sizes(splits, built.preprocessing.shape),
        pixels(sample),
        blanks(sample),
        prepared(sample, built.task.prepare, engine),
        augmented(built.task, engine),
    ]


def spread(data: ImageSet, count: int) -> ImageSet:
    """Return at most `count` images of `data`, evenly spread over it."""
    count = min(count, len(data))
    return data.part(torch.arange(count) * len(data) // max(1, count))


def labels(splits: Splits) -> Check:
    """Check that each label is the position of a class."""
    count = len(splits.train.classes)
    wrong = []
    for part in _parts(splits):
        targets = part.targets
        outside = ((targets < 0) | (targets >= count)).nonzero().flatten()
        if len(outside):
            first = int(outside[0])
            wrong.append(
                f"{len(outside)} of {len(targets):,} in {part.name}, such as "
                f"{int(targets[first])} of {part.describe(first)}"
            )
    total = sum(map(len, _parts(splits)))
    return Check(
        "labels",
        "failed" if wrong else "ok",
        f"outside: {'; '.join(wrong)}" if wrong else f"all of {total:,} inside",
        f"whole numbers from 0 to {count - 1}",
        f"Number the {count} classes from 0; look for labels that count from 1." if wrong else "",
    )


def classes(splits: Splits) -> Check:
    """Check that each class has images in each part that there is."""
    names = splits.train.classes
    missing, training = [], False
    for part in _parts(splits):
        counts = torch.bincount(part.targets.clamp(0, len(names) - 1), minlength=len(names))
        absent = [names[i] for i in (counts == 0).nonzero().flatten().tolist()]
        if absent:
            missing.append(f"{part.name} has none of {some(absent)}")
            training = training or part is splits.train
    return Check(
        "classes",
        "failed" if training else "warning" if missing else "ok",
        "; ".join(missing) or f"{len(names)} classes in each of {len(_parts(splits))} parts",
        "every class in every part",
        "What is not trained on cannot be learned, and what is not judged is not known: add "
        "images, or change --data.validation and --data.test."
        if missing
        else "",
    )


def balance(train: ImageSet) -> Check:
    """Check how unequal the classes are."""
    counts = torch.bincount(train.targets.clamp(min=0), minlength=len(train.classes))
    least, most = int(counts.min()), int(counts.max())
    ratio = most / least if least else float("inf")
    uneven = ratio > IMBALANCE
    return Check(
        "balance",
        "warning" if uneven else "ok",
        f"{least:,} to {most:,} images a class, {ratio:.3g} to 1; always guessing the largest "
        f"class is right for {most / len(train):.1%}",
        f"at most {IMBALANCE} to 1",
        "Judge by the recall of each class, not by accuracy alone; weigh the classes "
        "(--loss.class-weights balanced) or draw them evenly (--sampling.name balanced)."
        if uneven
        else "",
    )


def sizes(splits: Splits, shape: tuple[int, int, int]) -> Check:
    """Check that the images of all parts are what the network was built for."""
    wrong = [f"{part.name} {_by(part.shape)}" for part in _parts(splits) if part.shape != shape]
    return Check(
        "image size",
        "failed" if wrong else "ok",
        "; ".join(wrong) or f"{_by(shape)} in every part",
        f"{_by(shape)}, which the network was built for",
        "Bring all images to one size (--data.size)." if wrong else "",
    )


def pixels(sample: ImageSet) -> Check:
    """Check type and range of the stored pixels."""
    kind = sample.images.dtype
    low = min(float(images.min()) for images in _chunks(sample))
    high = max(float(images.max()) for images in _chunks(sample))
    advice = ""
    if kind != torch.uint8:
        advice = "Store the images as uint8: the recipe scales and normalises them."
    elif low == high:
        advice = "All pixels are alike: there is nothing to learn from. Look at the files."
    elif high <= 1:
        advice = (
            "Pixels of 0 and 1 only: if the images are not black and white, they were scaled to "
            "[0, 1] before they were stored as whole numbers, and all between is lost."
        )
    failed = kind != torch.uint8 or low == high
    return Check(
        "pixels",
        "failed" if failed else "warning" if advice else "ok",
        f"{str(kind).removeprefix('torch.')}, {low:g} to {high:g}, n = {len(sample):,}",
        "uint8, within 0 to 255",
        advice,
    )


def blanks(sample: ImageSet) -> Check:
    """Check for images of one colour, and for channels that are the same in all images."""
    blank: list[int] = []
    lows, highs = [], []
    for number, images in enumerate(_chunks(sample)):
        flat = images.flatten(2)
        low, high = flat.amin(2), flat.amax(2)  # (B, C)
        blank += (number * CHUNK + (low == high).all(1).nonzero().flatten()).tolist()
        lows.append(low.amin(0))
        highs.append(high.amax(0))
    constant = torch.stack(lows).amin(0) == torch.stack(highs).amax(0)
    channels = [str(i) for i in constant.nonzero().flatten().tolist()]
    found, advice = [], ""
    if blank:
        found.append(f"{len(blank)} of {len(sample):,} images are of one colour")
        advice = f"Look at {some([sample.describe(i) for i in blank])}."
    if channels:
        found.append(f"channel {some(channels)} is the same in all of {len(sample):,} images")
        advice += " Nothing can be learned from a channel that never changes."
    failed = len(blank) > BLANK * len(sample) or len(channels) == sample.shape[0]
    return Check(
        "blank images",
        "failed" if failed else "warning" if found else "ok",
        "; ".join(found) or f"none among {len(sample):,}",
        "none; every channel varies",
        advice.strip(),
    )


def prepared(sample: ImageSet, prepare: Callable[[Tensor], Tensor], engine: Engine) -> Check:
    """Check mean and standard deviation of the network's input on training images."""
    mean, std = statistics(prepare(images.to(engine.device)) for images in _chunks(sample))
    good = bool(((mean.abs() <= NEAR) & ((std - 1).abs() <= NEAR)).all())
    return Check(
        "input",
        "ok" if good else "failed",
        f"mean {_numbers(mean)}, deviation {_numbers(std)}, n = {len(sample):,}",
        f"mean 0, deviation 1 (each within {NEAR})",
        ""
        if good
        else "The network was made for inputs of mean 0 and deviation 1: normalise each channel by "
        "the statistics of the training images.",
    )


def augmented(task: Task, engine: Engine) -> Check:
    """Check that training batches are prepared as well: they take another way than validation."""
    batches, count = [], 0
    for step in range(min(32, task.plan.steps)):
        for batch in task.train.pieces(step):
            images = task.augment(engine.place(batch), step).images
            batches.append(images)
            count += len(images)
        if count >= 32:
            break
    mean, std = statistics(batches)
    good = bool(((mean.abs() <= 1) & (std >= 1 / FAR) & (std <= FAR)).all())
    return Check(
        "training input",
        "ok" if good else "failed",
        f"mean {_numbers(mean)}, deviation {_numbers(std)} after augmentation, n = {count}",
        f"mean within 1 of 0, deviation {1 / FAR:.2g} to {FAR:g}",
        "" if good else "Augmentation must end with the same normalisation as evaluation.",
    )


def statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over `batches` of (B, C, H, W)."""
    total = square = torch.zeros(())
    n = 0
    for x in batches:
        x = x.detach().cpu().double()  # some devices have no float64
        total = total + x.sum((0, 2, 3))
        square = square + (x * x).sum((0, 2, 3))
        n += x.numel() // x.shape[1]
    mean = total / n
    return mean, (square / n - mean**2).clamp(min=0).sqrt()


def _parts(splits: Splits) -> list[ImageSet]:
    return [part for part in (splits.train, splits.validation, splits.test) if len(part)]


def _chunks(data: ImageSet) -> Iterator[Tensor]:
    for index in torch.arange(len(data)).split(CHUNK):
        yield data.pixels(index)


def _by(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in values.tolist())
