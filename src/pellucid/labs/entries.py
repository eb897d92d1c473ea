"""What the catalogue of labs is made of: lessons, entries, and how one is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType

from pellucid.errors import UserError, did_you_mean, nearest

LESSONS = {
    1: "Tensors and shapes",
    2: "One neuron",
    3: "Loss",
    4: "Gradient",
    5: "One step",
    6: "Optimizers",
    7: "Depth and initial weights",
    8: "Convolution",
    9: "Training and its curves",
    10: "Generalisation",
    11: "Inside a trained network",
    12: "Judging it",
    13: "Sequences",
}


@dataclass(frozen=True)
class Entry:
    """A lab, not yet loaded.

    Args:
        name: on the command line; the module's name has `_` for `-`.
        title: what it shows, in one line.
        lesson: its place in the order, a number of `LESSONS`.
        needs: labs to understand first; all of them stand before it.
        load: imports its module.
    """

    name: str
    title: str
    lesson: int
    needs: tuple[str, ...]
    load: Callable[[], ModuleType]


LABS: dict[str, Entry] = {}
"""The labs of `catalogue.py` by name, in order."""


def entry(
    lesson: int, needs: Iterable[str] = ()
) -> Callable[[Callable[[], ModuleType]], Callable[[], ModuleType]]:
    """Enter the lab that the function below loads."""

    def enter(load: Callable[[], ModuleType]) -> Callable[[], ModuleType]:
        name = load.__name__.replace("_", "-")
        title = (load.__doc__ or "").strip().rstrip(".")
        LABS[name] = Entry(name, title, lesson, tuple(needs), load)
        return load

    return enter


def find(name: str) -> Entry:
    """Return the lab `name`.

    Raises:
        UserError: if there is none; the message names those that there are.
    """
    if name not in LABS:
        raise UserError(
            f'There is no lab "{name}"{did_you_mean(name, LABS) or "."} '
            f"The labs: {', '.join(nearest(name, LABS))}."
        )
    return LABS[name]
