"""What a person may ask a view: which image, layer, unit, place, class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pellucid.errors import UserError, did_you_mean

IMAGE = ("image", "drawing", "index", "on")
"""The options that choose an image."""


class BadOption(UserError):
    """An option that the view does not take, or that names what is not there."""


@dataclass(frozen=True)
class Options:
    """The options of all views; each view takes some of them.

    Args:
        image: an image file.
        drawing: an image file that was drawn by hand; it is prepared as MNIST was.
        index: position of an image in a part of the data.
        on: that part: `validation`, `train` or `test`.
        layer: by its name in the model.
        unit: a channel or feature of that layer, from 0.
        place: row and column in that layer's map, from 0.
        target: the class that is asked about, by name; else the one that the model names.
        against: the class that it is compared with; else the runner-up.
        count: how many images, where a view looks at many.
        size: height and width of another image, where only shapes are asked for.
    """

    image: Path | None = None
    drawing: Path | None = None
    index: int | None = None
    on: str | None = None
    layer: str | None = None
    unit: int | None = None
    place: tuple[int, int] | None = None
    target: str | None = None
    against: str | None = None
    count: int | None = None
    size: tuple[int, int] | None = None

    def given(self) -> dict[str, object]:
        """Return the options that were given, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    def taking(self, names: Sequence[str]) -> Options:
        """Return these options without those that are not among `names`."""
        left_out: dict[str, Any] = dict.fromkeys(self.given().keys() - set(names))
        return replace(self, **left_out)

    def only(self, view: str, taken: Sequence[str]) -> None:
        """Raise if an option was given that the view does not take.

        Raises:
            BadOption: naming those that it does.
        """
        for name in self.given():
            if name not in taken:
                known = ", ".join(f"--{option}" for option in taken) or "none"
                raise BadOption(f"The view {view} takes no --{name}. It takes: {known}.")


def choose(what: str, given: str, known: Iterable[str]) -> str:
    """Return `given` if it is one of `known`.

    Raises:
        BadOption: naming those that there are.
    """
    names = list(known)
    if given not in names:
        raise BadOption(
            f'There is no {what} "{given}"{did_you_mean(given, names) or "."} '
            f"There are: {', '.join(names) or 'none'}."
        )
    return given


def within(what: str, given: int, count: int, where: str) -> int:
    """Return `given` if it is in [0, count).

    Raises:
        BadOption: naming the range.
    """
    if not 0 <= given < count:
        raise BadOption(
            f"{where} has no {what} {given}. It has {count:,}: 0 to {count - 1:,}."
            if count
            else f"{where} has no {what} at all."
        )
    return given
