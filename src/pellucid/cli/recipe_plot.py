"""What `pellucid recipes plot` does: the learning rate of a recipe, without training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pellucid.catalogue import to_tree
from pellucid.data.split import split
from pellucid.errors import BadRecipe
from pellucid.figures.render import png
from pellucid.figures.schedule import schedule_figure
from pellucid.optim.plateau import NoPlateau
from pellucid.recipe import Recipe
from pellucid.runs.disk import replace_file
from pellucid.sinks.console import Console

SIZES = {
    "digits": 5000,
    "mnist": 60000,
    "fashion-mnist": 60000,
    "cifar10": 50000,
    "cifar100": 50000,
}
"""Training images of the known sets, validation included."""
POINTS = 4000
"""Points of the curve, at most: more than a picture has columns."""
UNKNOWN = "cut when validation stops getting better, which nobody knows before: not drawn"


def draw(recipe: Recipe, images: int | None, out: Path) -> dict[str, Any]:
    """Draw the schedule of `recipe` into the file `out`; return its numbers for JSON.

    Raises:
        BadRecipe: if the schedule does not fit, or `images` or `out` cannot be.
    """
    if out.suffix.lower() != ".png":
        raise BadRecipe(f'--out must be a picture FILE.png. Got "{out}".')
    facts = planned(recipe, images)
    steps, points = facts["steps"], facts["points"]
    title = f"{facts['schedule']}, {facts['optimizer']}, {facts['images']:,} training images"
    figure = schedule_figure(
        [*points, (steps, points[-1][1])], steps, facts["steps_per_epoch"], title, facts["note"]
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, png(figure))
    return {**facts, "figure": str(out)}


def planned(recipe: Recipe, images: int | None) -> dict[str, Any]:
    """Return the numbers of the schedule of `recipe`, for JSON.

    Args:
        recipe: its schedule must fit its length.
        images: training images without those for validation; None finds out.

    Raises:
        BadRecipe: if it does not, or there are no images.
    """
    if images is not None and images < 1:
        raise BadRecipe(f"--images must be at least 1. Got {images}.")
    tree = to_tree(recipe)
    count = images or _images(recipe, str(tree["data"].get("name")))
    per_epoch = -(-count // recipe.batch_size)
    steps = recipe.length.steps(per_epoch, recipe.batch_size)
    if steps < 1:
        raise BadRecipe(f'length must be at least one step. Got "{recipe.length}".')
    try:
        schedule = recipe.schedule.build(recipe.optimizer.lr, steps, per_epoch)
    except ValueError as error:
        raise BadRecipe(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
    at = sorted({steps * i // POINTS for i in range(POINTS)} | {steps - 1})
    rates = [schedule(step) for step in at]
    known = isinstance(recipe.schedule.plateau(), NoPlateau)
    return {
        "schedule": str(tree["schedule"].get("name", "schedule")),
        "optimizer": str(tree["optimizer"].get("name", "optimizer")),
        "images": count,
        "steps": steps,
        "steps_per_epoch": per_epoch,
        "epochs": steps / per_epoch,
        "first": rates[0],
        "highest": max(rates),
        "last": rates[-1],
        "note": "" if known else UNKNOWN,
        "points": list(zip(at, rates, strict=True)),
    }


def _images(recipe: Recipe, name: str) -> int:
    """Return the number of training images, of known sets without looking."""
    if name in SIZES and not recipe.fold:
        total = SIZES[name]
        return total - round(recipe.data.validation * total)
    console = Console(sys.stderr)
    loaded = recipe.data.load(console.progress)
    console.close()
    data = recipe.data
    return len(split(loaded, data.validation, data.test, recipe.seed, recipe.fold).train)
