"""What `pellucid data show` tells of a data set."""

from __future__ import annotations

from typing import Any

import torch

from pellucid.data.preprocessing import Preprocessing
from pellucid.data.split import split
from pellucid.recipe import Recipe
from pellucid.sinks.console import Console
from pellucid.values import ImageSet

PARTS = ("train", "validation", "test")


def data_facts(recipe: Recipe, console: Console) -> dict[str, Any]:
    """Return parts, classes, shape, statistics and digest of the data of `recipe`, for JSON."""
    loaded = recipe.data.load(console.progress)
    splits = split(loaded, recipe.data.validation, recipe.data.test, recipe.seed, recipe.fold)
    statistics = Preprocessing.measure(splits.train)
    counts: dict[str, list[int]] = {}
    for part in PARTS:
        data: ImageSet = getattr(splits, part)
        counts[part] = torch.bincount(data.targets, minlength=len(data.classes)).tolist()
    return {
        "name": splits.train.name.rsplit("/", 1)[0],
        "shape": list(splits.train.shape),
        "parts": {part: sum(count) for part, count in counts.items()},
        "classes": {
            name: {part: counts[part][i] for part in PARTS}
            for i, name in enumerate(splits.train.classes)
        },
        "mean": list(statistics.mean),
        "std": list(statistics.std),
        "digest": splits.digest,
        "notes": list(splits.notes),
    }


def data_page(facts: dict[str, Any]) -> str:
    """Return `facts` as lines for a person."""
    parts = ", ".join(f"{n:,} {part}" for part, n in facts["parts"].items())
    lines = [
        f"{facts['name']}: {parts}; {'x'.join(map(str, facts['shape']))} pixels, "
        f"{len(facts['classes'])} classes",
        f"mean {_numbers(facts['mean'])}, standard deviation {_numbers(facts['std'])} "
        "(training part, pixels in [0, 1])",
    ]
    width = max(map(len, facts["classes"]))
    for name, counts in facts["classes"].items():
        shown = "".join(f"  {part} {count:>6,}" for part, count in counts.items())
        lines.append(f"  {name:<{width}}{shown}")
    lines += [f"note: {note}" for note in facts["notes"]]
    return "\n".join([*lines, f"digest: {facts['digest']}"])


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
