"""What `pellucid data preview` draws: training images as the network gets them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.augment.pipeline import AugmentSpec
from pellucid.catalogue import to_tree
from pellucid.data.preprocessing import Preprocessing
from pellucid.data.split import split
from pellucid.errors import BadRecipe
from pellucid.figures.augmentation import augmentation
from pellucid.figures.render import png
from pellucid.recipe import Recipe
from pellucid.runs.disk import replace_file
from pellucid.sinks.console import Console
from pellucid.values import Batch, ImageSet

NAME = "data_augmentation_demo.png"
MOST = 16
"""Images, and draws of each, at most: more would not be legible."""


def preview(recipe: Recipe, rows: int, draws: int, out: Path, console: Console) -> dict[str, Any]:
    """Draw `draws` views of `rows` training images into the file `out`; return what was drawn.

    Raises:
        BadRecipe: if the recipe has no augmentation, or the numbers are out of range.
    """
    figure, facts = demo(recipe, rows, draws, console)
    out = out / NAME if out.is_dir() else out
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, png(figure))
    return {"path": str(out), **facts}


def demo(recipe: Recipe, rows: int, draws: int, console: Console) -> tuple[Any, dict[str, Any]]:
    """Return the figure, and what was drawn for each of its images.

    The images go through the very function that a run of `recipe` calls, as if they were the batch
    of steps 0, 1, and so on, each in an epoch of its own; then normalisation is taken back, so that
    they can be looked at.
    """
    spec = _checked(recipe, rows, draws)
    loaded = recipe.data.load(console.progress)
    data = recipe.data
    train = split(loaded, data.validation, data.test, recipe.seed, recipe.fold).train
    preprocessing = Preprocessing.measure(train)
    prepare = preprocessing.on(torch.device("cpu"))
    augment = spec.build(recipe.seed, prepare, len(train.classes), train.shape)
    index = spread(train, rows)
    size = len(index)
    first = Batch(train.pixels(index), train.label(index), index, torch.arange(size), size)
    labels = [train.classes[label] for label in first.targets.tolist()]
    views, words = [], []
    images: list[dict[str, Any]] = [
        {"image": train.describe(position), "label": label, "draws": []}
        for position, label in zip(index.tolist(), labels, strict=True)
    ]
    for step in range(draws):
        batch = replace(first, epoch=step)
        view = augment(batch, step)
        drawn = spec.drawn(recipe.seed, step, batch)
        views.append(_pixels(view.images, preprocessing))
        words.append(_words(spec, drawn, view.targets, train.classes))
        for i, image in enumerate(images):
            values = {name: draw[i].tolist() for name, draw in drawn.items()}
            image["draws"].append({"words": words[-1][i], **values})
    name = train.name.rsplit("/", 1)[0]
    title = f"Augmentation of {name}: {', '.join(spec.operations())} (seed {recipe.seed})"
    figure = augmentation(first.images, views, labels, words, title)
    augmented = to_tree(recipe)["augment"]
    return figure, {"data": name, "seed": recipe.seed, "augment": augmented, "images": images}


def spread(data: ImageSet, count: int) -> Tensor:
    """Return the positions of `count` images: the first of each class, then the second, and so on.

    Fewer if the data has fewer.
    """
    of_class: dict[int, list[int]] = {}
    for position, label in enumerate(data.targets.tolist()):
        of_class.setdefault(label, []).append(position)
    order = sorted((turn, k, at) for k, all_ in of_class.items() for turn, at in enumerate(all_))
    return torch.tensor([at for _, _, at in order[:count]])


def _checked(recipe: Recipe, rows: int, draws: int) -> AugmentSpec:
    """Return the augmentation of `recipe`, if there is something to draw."""
    spec = recipe.augment
    assert isinstance(spec, AugmentSpec)
    for name, given in (("rows", rows), ("draws", draws)):
        if not 1 <= given <= MOST:
            raise BadRecipe(f"--{name} must be a whole number from 1 to {MOST}. Got {given}.")
    if not spec.operations():
        raise BadRecipe(
            "The recipe has no augmentation, so there is nothing to preview: in training every "
            "image is shown as it is. Switch some on, for example --augment.flip on "
            f"--augment.rotate.degrees 15. Known: {', '.join(AugmentSpec.__struct_fields__)}."
        )
    return spec


def _words(
    spec: AugmentSpec, drawn: dict[str, Tensor], targets: Tensor, classes: tuple[str, ...]
) -> list[str]:
    """Return in words what was drawn for each image, and its label where that is a mixture."""
    texts = []
    for i, target in enumerate(targets):
        parts = [operation.words(drawn[name][i]) for name, operation in spec.operations().items()]
        if target.ndim and (target > 0).sum() > 1:
            shares = [(float(target[k]), classes[k]) for k in target.nonzero().flatten().tolist()]
            parts.append("label " + " + ".join(f"{share:.0%} {name}" for share, name in shares))
        texts.append(", ".join(part for part in parts if part) or "unchanged")
    return texts


def _pixels(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return normalised `images` (B, C, H, W) as uint8 pixels again."""
    mean, std = (
        torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    return ((images * std + mean) * 255).round_().clamp_(0, 255).to(torch.uint8)
