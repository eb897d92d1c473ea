"""The named recipes: `good` and `notes` for each data, `fast` and `best` for some."""

from __future__ import annotations

from pellucid.errors import BadRecipe, did_you_mean, nearest
from pellucid.recipe import Recipe
from pellucid.recipes.best import BEST, best
from pellucid.recipes.fast import FAST, fast
from pellucid.recipes.plain import good, notes

NAMES = ("good", "notes", "fast", "best")


def offered(data: str) -> tuple[str, ...]:
    """Return the names of the recipes that there are for `data`.

    >>> offered("cifar10"), offered("digits")
    (('good', 'notes', 'fast'), ('good', 'notes'))
    """
    some = {"fast": FAST, "best": BEST}
    return tuple(name for name in NAMES if data in some.get(name, (data,)))


def named(recipe: str, data: str) -> Recipe:
    """Return the recipe `recipe` (`good`, `notes`, `fast` or `best`) for the data `data`.

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
    if recipe == "best":
        return best(data)
    raise BadRecipe(
        f"A recipe is {', '.join(nearest(recipe, NAMES))}, or a file FILE.toml. "
        f'Got "{recipe}"{did_you_mean(recipe, NAMES) or "."}'
    )
