"""What a search may choose from: `--param optimizer.lr=log:1e-4..1e-1`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pellucid.catalogue import Tree
from pellucid.errors import BadRecipe

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"(?:(log|int|logint):)?({NUMBER})\.\.({NUMBER})")


@dataclass(frozen=True)
class Param:
    """A setting that a search chooses.

    Args:
        key: of the recipe, such as `optimizer.lr`.
        low: least value of a range.
        high: greatest value.
        log: the logarithm is spread evenly, not the value.
        whole: whole numbers only.
        choices: the values, where they are listed; then there is no range.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()


def param(word: str) -> Param:
    """Return what `word` says: `KEY=a,b,c`, `KEY=low..high`, or with `log:`, `int:`, `logint:`.

    Raises:
        BadRecipe: with the forms that there are.

    >>> param("optimizer.lr=log:1e-4..1e-1")
    Param(key='optimizer.lr', low=0.0001, high=0.1, log=True, whole=False, choices=())
    >>> param("optimizer.name=sgd,adam").choices
    ('sgd', 'adam')
    """
    key, equals, text = word.partition("=")
    key, text = key.strip().removeprefix("--").replace("-", "_"), text.strip()
    if not equals or not key or not text:
        raise _bad(word, "it needs a setting and its values")
    found = RANGE.fullmatch(text)
    if not found:
        if ".." in text or ":" in text:
            raise _bad(word, f'"{text}" is no range')
        choices = tuple(value.strip() for value in text.split(",") if value.strip())
        if len(set(choices)) < 2:
            raise _bad(word, "a choice needs at least two different values")
        return Param(key, choices=choices)
    kind, low, high = found.group(1) or "", float(found.group(2)), float(found.group(3))
    if not low < high:
        raise _bad(word, f"the range goes from {low:g} to {high:g}; the first must be smaller")
    log, whole = "log" in kind, "int" in kind
    if log and low <= 0:
        raise _bad(word, f"a logarithmic range must begin above 0, not at {low:g}")
    if whole and not (low.is_integer() and high.is_integer()):
        raise _bad(word, "the ends of a range of whole numbers are whole numbers")
    return Param(key, low, high, log, whole)


def settings(values: dict[str, str | float | int]) -> Tree:
    """Return `values`, by setting, as a tree of changes to a recipe.

    >>> settings({"optimizer.lr": 0.1, "batch_size": 64})
    {'optimizer': {'lr': 0.1}, 'batch_size': 64}
    """
    tree: Tree = {}
    for key, value in sorted(values.items(), key=lambda item: not item[0].endswith(".name")):
        *path, last = key.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def _bad(word: str, why: str) -> BadRecipe:
    return BadRecipe(
        f'--param "{word}" cannot be used: {why}. Allowed: KEY=a,b,c; KEY=low..high; '
        "KEY=log:low..high; KEY=int:low..high; KEY=logint:low..high. "
        "For example: --param optimizer.lr=log:1e-4..1e-1"
    )
