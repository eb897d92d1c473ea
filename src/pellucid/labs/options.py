"""The options of a lab: the keyword parameters of its `run`, with range and help.

    @lab
    def run(*, lr: Annotated[float, ranged("learning rate", 0, 1)] = 0.1) -> LabResult: ...

From Python they are given as they are, from the command line as text; both are checked here.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, get_args, get_origin, get_type_hints

import msgspec
import torch

from pellucid.errors import UserError, did_you_mean, nearest
from pellucid.labs.result import LabResult
from pellucid.seeds import reseed

P = ParamSpec("P")
WORDS = {"yes": True, "on": True, "no": False, "off": False}


def ranged(help: str, low: float, high: float) -> msgspec.Meta:
    """Describe a number, and allow it to go from `low` to `high`, both included."""
    return msgspec.Meta(ge=low, le=high, description=help)


def about(help: str) -> msgspec.Meta:
    """Describe an option that needs no range: a choice, a switch, several numbers."""
    return msgspec.Meta(description=help)


@dataclass(frozen=True)
class Option:
    """One keyword parameter of a lab.

    Args:
        name: as in Python; with `-` for `_` on the command line.
        kind: its type, with what it allows.
        default: of the lab.
    """

    name: str
    kind: Any
    default: Any

    @property
    def flag(self) -> str:
        """The option as it is written on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def help(self) -> str:
        """What it means."""
        return next((m.description for m in _metas(self.kind) if m.description), "")

    @property
    def allowed(self) -> str:
        """Which values it takes, in words."""
        return _allowed(self.kind)

    def read(self, value: Any) -> Any:
        """Return `value` as the lab takes it.

        Raises:
            UserError: if it is not allowed; the message says what is.
        """
        try:
            read = msgspec.convert(_parsed(self.kind, value), self.kind, strict=False)
        except msgspec.ValidationError:
            read = math.nan
        if any(isinstance(part, float) and not math.isfinite(part) for part in _parts(read)):
            raise UserError(f'{self.flag} must be {self.allowed}. Got "{_text(value)}".')
        return read


def lab(run: Callable[P, LabResult]) -> Callable[P, LabResult]:
    """Make `run` check its options, and draw the same random numbers whoever calls it when."""

    @functools.wraps(run)
    def checked(*args: P.args, **given: P.kwargs) -> LabResult:
        assert not args, "the options of a lab have names"
        options = read(checked, given)
        with torch.random.fork_rng(devices=[]):  # the caller's stream is not ours to use
            reseed(0, "lab")
            return run(**options)  # type: ignore[call-arg]

    return checked


def options(run: Callable[..., LabResult]) -> dict[str, Option]:
    """Return the options of a lab by name, in the order of its parameters."""
    hints = get_type_hints(run, include_extras=True)
    return {
        name: Option(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(run).parameters.items()
    }


def read(run: Callable[..., LabResult], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a lab: those of `given`, read and checked, and the defaults.

    Raises:
        UserError: if there is no such option, or its value is not allowed.
    """
    known = options(run)
    for name in given:
        if name not in known:
            flags = {option.flag for option in known.values()}
            flag = f"--{name.replace('_', '-')}"
            others = f" Its options: {', '.join(nearest(flag, flags))}." if flags else ""
            raise UserError(
                f"This lab has no option {flag}{did_you_mean(flag, flags) or '.'}{others}"
            )
    return {name: option.read(given.get(name, option.default)) for name, option in known.items()}


def from_words(words: Sequence[str]) -> dict[str, str]:
    """Return the options that stand on a command line, unread.

    >>> from_words(["--lr", "0.1", "--start=-1,1"])
    {'lr': '0.1', 'start': '-1,1'}

    Raises:
        UserError: if a word is no option, or an option has no value.
    """
    found: dict[str, str] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("--"):
            raise UserError(f'Options are written --NAME VALUE. Got "{word}".')
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not queue or queue[0].startswith("--"):
                raise UserError(f"{word} needs a value: {word} VALUE.")
            value = queue.pop(0)
        found[name.replace("-", "_")] = value
    return found


def _bare(kind: Any) -> Any:
    """Return a type without what is said about it."""
    return get_args(kind)[0] if hasattr(kind, "__metadata__") else kind


def _metas(kind: Any) -> tuple[msgspec.Meta, ...]:
    return getattr(kind, "__metadata__", ())


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _parsed(kind: Any, value: Any) -> Any:
    """Return text as msgspec reads it: several numbers have commas between them."""
    bare = _bare(kind)
    if isinstance(value, str) and get_origin(bare) is tuple:
        return [part.strip() for part in value.split(",")]
    if isinstance(value, str) and bare is bool:
        return WORDS.get(value.lower(), value)
    return value


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _allowed(kind: Any) -> str:
    bare = _bare(kind)
    if get_origin(bare) is tuple:
        kinds = get_args(bare)
        count = "numbers" if kinds[-1] is ... else f"{len(kinds)} numbers"
        return f"{count} with commas between them, each {_allowed(kinds[0])}"
    if get_origin(bare) is Literal:
        return f"one of {', '.join(map(str, get_args(bare)))}"
    if bare is bool:
        return "yes or no"
    words = {int: "a whole number", float: "a number"}.get(bare, "a text")
    for meta in _metas(kind):
        if meta.ge is not None:
            words += f" from {meta.ge:g} to {meta.le:g}"
    return words
