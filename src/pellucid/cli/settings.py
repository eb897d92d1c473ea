"""Dotted settings on the command line: `--optimizer.lr 0.01` becomes a tree.

They are taken out before the command's own options are read: there are as many as a recipe has
fields, three levels deep, and all of them are checked once, by the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

DOTTED = re.compile(r"--([a-zA-Z][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)
SCALARS = ("length", "evaluate", "batch-size", "accumulate", "max-grad-norm")
"""Settings without a table that have no option of their own in a command's help."""
SCALAR = re.compile(rf"--({'|'.join(name.replace('-', '[-_]') for name in SCALARS)})(?:=(.*))?")
NUMBERS = re.compile(r"[-+\d.eE]+(,[-+\d.eE]+)+")


def take_settings(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings among `words` as a tree, and the other words.

    A setting's value is the next word, or stands after `=`; without one it is `true`. Numbers
    with commas between them are a list.

    >>> take_settings(["mnist", "--optimizer.lr", "0.01", "--data.skip-unreadable", "--json"])
    ({'optimizer': {'lr': '0.01'}, 'data': {'skip_unreadable': True}}, ['mnist', '--json'])
    """
    tree: dict[str, Any] = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        match = DOTTED.fullmatch(word) or SCALAR.fullmatch(word)
        if not match:
            rest.append(word)
            continue
        value: str | bool | None = match.group(2)
        if value is None:
            value = queue.pop(0) if queue and not queue[0].startswith("--") else True
        keys = match.group(1).replace("-", "_").split(".")
        is_list = isinstance(value, str) and NUMBERS.fullmatch(value)
        put(tree, keys, str(value).split(",") if is_list else value)
    return tree, rest


def put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set `value` at the place `keys` of `tree`, making tables on the way.

    >>> tree = {}
    >>> put(tree, ["augment", "crop", "padding"], "2")
    >>> tree
    {'augment': {'crop': {'padding': '2'}}}
    """
    *path, last = keys
    for key in path:
        below = tree.get(key)
        if not isinstance(below, dict):
            below = tree[key] = {}
        tree = below
    tree[last] = value
