"""From the words of `pellucid compare` to the arms of a comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pellucid.catalogue import overlay, to_tree
from pellucid.cli.resolve import Options, resolve
from pellucid.errors import BadRecipe
from pellucid.experiments.arms import Arm, distinct, preset, vary
from pellucid.recipe import Recipe


def arms_of(
    data: str | None,
    options: Options,
    varied: Sequence[str],
    ready: str | None,
    recipes: Sequence[str],
) -> list[Arm]:
    """Return the arms: of `--vary`, of a preset, or several recipes.

    Where TensorBoard is installed each arm gets a board, unless a setting says otherwise.

    Raises:
        UserError: naming what is unknown or does not go together.
    """
    ways = [bool(varied), ready is not None, len(recipes) > 1]
    if sum(ways) != 1:
        raise BadRecipe(
            "A comparison needs one of: --vary KEY=a,b (may be repeated), --preset NAME, or "
            f"several --recipe. Got {('none', 'one', 'two', 'three')[sum(ways)]} of them."
        )
    settings = options.settings or {}
    if find_spec("tensorboard") and "tensorboard" not in settings.get("record", {}):
        settings = overlay(
            settings, {"record": {**settings.get("record", {}), "tensorboard": True}}
        )
    options = dataclasses.replace(options, settings=settings)
    if len(recipes) > 1:
        return distinct(
            [
                Arm(Path(name).stem, resolve(data, dataclasses.replace(options, recipe=name)))
                for name in recipes
            ]
        )
    base = resolve(data, dataclasses.replace(options, recipe=recipes[0] if recipes else "good"))
    if ready is not None:
        channels = base.data.load().train.shape[0] if ready == "augmentation" else 3
        return preset(ready, base, channels)
    return vary(base, [_varied(word) for word in varied])


def title_of(recipe: Recipe, varied: Sequence[str], ready: str | None) -> str:
    """Return what a person calls the comparison, such as `digits-optimizer.name`."""
    tree = to_tree(recipe)["data"]
    data = Path(tree.get("path", "")).stem or tree.get("name", "data")
    what = ready or "-".join(word.partition("=")[0] for word in varied) or "recipes"
    return f"{data}-{what}".replace(" ", "-")


def _varied(word: str) -> tuple[str, list[str]]:
    key, equals, values = word.partition("=")
    given = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not key or not given:
        raise BadRecipe(
            f'--vary needs a setting and its values: --vary optimizer.lr=0.01,0.1. Got "{word}".'
        )
    return key.strip().removeprefix("--"), given
