"""From the words of a command line to one recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.catalogue import COMMAND_LINE, Tree, from_tree, names, overlay, read_toml, to_tree
from pellucid.errors import BadData, BadRecipe, did_you_mean, nearest
from pellucid.recipe import Recipe
from pellucid.recipes.named import named


@dataclass(frozen=True)
class Options:
    """The options of `train` that are short for a setting."""

    recipe: str = "good"
    epochs: str | None = None
    seed: str | None = None
    device: str | None = None
    precision: str | None = None
    compile: bool = False
    deterministic: bool = False
    settings: Tree | None = None

    def tree(self) -> Tree:
        """Return them as settings, those of `settings` first."""
        tree: Tree = {}
        if self.epochs is not None:
            if not re.fullmatch(r"\d+(\.\d+)?", self.epochs) or not float(self.epochs):
                raise BadRecipe(f'--epochs must be a number above 0. Got "{self.epochs}".')
            tree["length"] = f"{self.epochs} epochs"
        if self.seed is not None:
            tree["seed"] = self.seed
        engine: dict[str, Any] = {}
        if self.device is not None:
            engine["device"] = self.device
        if self.precision is not None:
            engine["precision"] = self.precision
        if self.compile:
            engine["compile"] = True
        if self.deterministic:
            engine["deterministic"] = True
        return {**tree, **({"engine": engine} if engine else {})}


def resolve(data: str | None, options: Options) -> Recipe:
    """Return the recipe: a named one or a file, for `data`, with the settings laid over it.

    A file need not be complete: what it leaves out is taken from `good` for its data.

    Raises:
        UserError: naming what is unknown, and what is known.
    """
    source = data_tree(data) if data is not None else None
    where = COMMAND_LINE
    if _is_file(options.recipe):
        file = read_toml(Path(options.recipe))
        where = options.recipe
        if source:
            file = overlay(file, {"data": source})
        given = file.get("data", {})
        if not isinstance(given, dict):
            raise BadRecipe(f"data is a table. Got {given}. In {where}.")
        name = str(given.get("name", "digits"))
        _known_data(name)
        tree = overlay(_without_path(to_tree(named("good", name))), file)
    else:
        source = source or {"name": (options.settings or {}).get("data", {}).get("name", "digits")}
        _known_data(source["name"])
        tree = overlay(
            _without_path(to_tree(named(options.recipe, source["name"]))), {"data": source}
        )
    tree = overlay(overlay(tree, options.settings or {}), options.tree())
    table = tree["data"].get("relabel")
    if isinstance(table, str):  # a resume from another folder has to find it, too
        tree["data"] = {**tree["data"], "relabel": str(Path(table).expanduser().resolve())}
    return from_tree(tree, where)


def data_tree(data: str) -> Tree:
    """Return the table `data` of a recipe for a known name, an image folder or a CSV file.

    Raises:
        BadData: if it is none of them.
    """
    known = [name for name in names("data") if name not in ("folder", "csv")]
    if data in known:
        return {"name": data}
    path = Path(data).expanduser()
    if data and path.is_dir():
        return {"name": "folder", "path": str(path.resolve())}
    if path.is_file() and path.suffix.lower() == ".csv":
        return {"name": "csv", "path": str(path.resolve())}
    raise BadData(
        f'There is no data "{data}"{did_you_mean(data, known) or "."} Known names: '
        f"{', '.join(nearest(data, known))}. Or give an image folder (a folder of images for each "
        "class) or a CSV file with the columns path,label."
    )


def _without_path(tree: Tree) -> Tree:
    """Return `tree` without the empty place that a named recipe for one's own data has."""
    return {**tree, "data": {key: value for key, value in tree["data"].items() if key != "path"}}


def _known_data(name: str) -> None:
    if name not in names("data"):
        data_tree(name)


def _is_file(recipe: str) -> bool:
    return recipe.endswith(".toml") or "/" in recipe or Path(recipe).is_file()
