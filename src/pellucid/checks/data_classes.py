"""Findings about classes: their names, their sizes, and where they are missing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pellucid.checks.check import some
from pellucid.checks.data_duplicates import PARTS
from pellucid.checks.data_text import DataFinding, plural
from pellucid.checks.preflight_data import IMBALANCE

FEW = 10
"""Training images below which a class is too small to be split and judged."""
UNEVEN = 3
"""From this ratio on the sizes of the classes are worth a note."""

Counts = NDArray[np.int64]


def class_findings(
    classes: Sequence[str], counts: Counts, named: Mapping[str, frozenset[str]]
) -> Iterator[DataFinding]:
    """Yield what is to be said of classes.

    Args:
        classes: names of all classes.
        counts: readable images by class and part, (K, 3).
        named: the classes that each part names, be they empty; parts that there are.
    """
    if len(classes) < 2:
        given = f'one, "{classes[0]}"' if classes else "none"
        yield DataFinding(
            "one-class", "error",
            f"A classifier needs at least two classes; there is {given}.",
            {"classes": len(classes)},
            "Make a folder for each class, or name the classes in the label column.",
        )  # fmt: skip
    yield from _names(named)
    yield from _sizes(classes, counts)
    yield from _imbalance(classes, counts)


def _names(named: Mapping[str, frozenset[str]]) -> Iterator[DataFinding]:
    """Yield what is to be said of class names that differ from part to part."""
    train = named.get("train", frozenset())
    texts, items = [], []
    for part, names in named.items():
        more, less = sorted(names - train), sorted(train - names)
        if part == "train" or not (more or less):
            continue
        differ = [*(f"+ {name}" for name in more), *(f"- {name}" for name in less)]
        texts.append(f"{part} against train: {some(differ)}")
        items += [{"file": f"{part}/{name}", "reason": _meant(name, less)} for name in more]
        items += [{"file": f"{part}/{name}", "reason": "missing"} for name in less]
    if texts:
        first = _renumbered(named)
        yield DataFinding(
            "class-names-differ",
            "error",
            f"The parts do not have the same classes. {'; '.join(texts)}.{first}",
            {"names": len(items)},
            "Give each part a folder of the same name for each class.",
            tuple(items),
        )


def _meant(name: str, missing: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.casefold(), [n.casefold() for n in missing], 1, 0.7)
    likely = [n for n in missing if n.casefold() in close]
    return f'not in train; is it "{likely[0]}"?' if likely else "not in train"


def _renumbered(named: Mapping[str, frozenset[str]]) -> str:
    """Return a sentence about a class that would get two numbers, if parts were numbered alone."""
    train = sorted(named.get("train", ()), key=str.encode)
    for part, names in named.items():
        here = sorted(names, key=str.encode)
        for name in train:
            if name in names and here.index(name) != train.index(name):
                return (
                    f' Programs that number the folders of each part take "{name}" for class '
                    f"{train.index(name)} in train and {here.index(name)} in {part}."
                )
    return ""


def _sizes(classes: Sequence[str], counts: Counts) -> Iterator[DataFinding]:
    """Yield what is to be said of classes without images, or with few."""
    used = [part for part in range(len(PARTS)) if counts[:, part].any()]
    empty = [name for name, row in zip(classes, counts, strict=True) if not row.any()]
    if empty:
        yield DataFinding(
            "empty-classes", "error",
            f"{plural(len(empty), 'class')} without images: {some(empty)}.",
            {"n": len(empty)}, "Add images, or remove the folder.",
            tuple({"file": name} for name in empty),
        )  # fmt: skip
    missing = [
        {"file": name, "reason": f"none in {PARTS[part]}"}
        for name, row in zip(classes, counts, strict=True)
        for part in used
        if row.any() and not row[part]
    ]
    if missing:
        texts = [f"{item['file']} ({item['reason']})" for item in missing]
        yield DataFinding(
            "missing-classes", "error",
            f"Not every class has images in every part: {some(texts)}.", {"n": len(missing)},
            "What is not trained on cannot be learned, and what is not judged is not known: add "
            "images, or bring the folders of the parts in line.",
            tuple(missing),
        )  # fmt: skip
    small = [
        {"file": name, "images": int(row[0])}
        for name, row in zip(classes, counts, strict=True)
        if 0 < row[0] < FEW
    ]
    if small:
        one = any(item["images"] == 1 for item in small)
        texts = [f"{item['file']} ({item['images']})" for item in small]
        yield DataFinding(
            "small-classes", "error" if one else "warning",
            f"Fewer than {FEW} images to train on: {some(texts)}.", {"n": len(small)},
            "Add images, or remove the class: "
            + ("a class of one image cannot be trained and judged." if one else
               "so few can hardly be split, and a figure on them means little."),
            tuple(small),
        )  # fmt: skip


def _imbalance(classes: Sequence[str], counts: Counts) -> Iterator[DataFinding]:
    there = np.nonzero(counts[:, 0])[0]  # a class without images is told as such
    train = counts[there, 0]
    if len(train) < 2 or train.max() < UNEVEN * train.min():
        return
    ratio = float(train.max() / train.min())
    most, least = (classes[int(there[at])] for at in (train.argmax(), train.argmin()))
    yield DataFinding(
        "imbalance",
        "warning" if ratio > IMBALANCE else "note",
        f"Class {most} has {train.max():,} training images and class {least} has "
        f"{train.min():,}: {ratio:.3g} to 1. Always answering {most} is right for "
        f"{train.max() / train.sum():.1%}.",
        {"largest": int(train.max()), "smallest": int(train.min()), "ratio": ratio},
        "Judge by the recall of each class; weigh the classes (--loss.class_weights balanced) or "
        "draw them evenly (--sampling.name balanced).",
    )
