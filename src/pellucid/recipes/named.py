"""The named recipes: `good`, a plain one for each data; `notes`, the textbook one; `fast`."""

from __future__ import annotations

from pellucid.errors import BadRecipe, did_you_mean, nearest
from pellucid.recipe import Recipe
from pellucid.recipes.fast import FAST, fast
from pellucid.recipes.plain import good, notes

NAMES = ("good", "notes", "fast")


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
