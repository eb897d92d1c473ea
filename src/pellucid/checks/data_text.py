"""What a data check says: findings in plain words, with numbers, names and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
ORDER: tuple[Severity, ...] = ("error", "warning", "note")
SHOWN = 10
"""Names or pairs that a person is shown; a machine gets all of them."""


@dataclass(frozen=True)
class DataFinding:
    """One thing that was noticed about the data.

    Args:
        name: fixed, for programs: `copies-in-two-parts`.
        severity: with an `error` training stops or its figures mean nothing; a `warning` says that
            something is probably wrong; a `note` is information.
        sentence: what was seen, in plain words and with the numbers.
        numbers: those that led to it.
        advice: what to do.
        items: what it is about, one by one: files, pairs, classes.
    """

    name: str
    severity: Severity
    sentence: str
    numbers: Mapping[str, float | int | str]
    advice: str = ""
    items: tuple[Mapping[str, Any], ...] = ()

    @property
    def lines(self) -> list[str]:
        """The first of the items, one line each, and how many there are beside."""
        shown = [_line(item) for item in self.items[:SHOWN]]
        more = len(self.items) - SHOWN
        return [*shown, f"and {more:,} more"] if more > 0 else shown


def _line(item: Mapping[str, Any]) -> str:
    """Return an item as a line: its names first, then the rest in brackets.

    >>> _line({"file": "a.png", "copy": "b.png", "distance": 0.02})
    'a.png = b.png (distance 0.02)'
    >>> _line({"file": "a.png", "reason": "empty"})
    'a.png (empty)'
    """
    names = [printable(item[key]) for key in ("file", "copy") if key in item]
    rest = [
        str(value) if key == "reason" else f"{key} {value}"
        for key, value in item.items()
        if key not in ("file", "copy")
    ]
    head = " = ".join(names)
    return f"{head} ({', '.join(rest)})" if rest else head


def printable(name: str) -> str:
    """Return a file's name on one line, without what would move the cursor of a terminal.

    >>> printable("a\\nb\\x1b[31m.png")
    'a\\\\nb\\\\x1b[31m.png'
    """
    if name.isprintable():
        return name
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in name
    )


def plural(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1.

    >>> plural(1, "image"), plural(1200, "image"), plural(2, "class")
    ('1 image', '1,200 images', '2 classes')
    """
    if n == 1:
        return f"{n} {noun}"
    return f"{n:,} {noun}{'es' if noun.endswith('s') else 's'}"


def listed(words: Sequence[str]) -> str:
    """Return `words` as an enumeration.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def sorted_findings(findings: Iterable[DataFinding]) -> list[DataFinding]:
    """Return `findings` with errors first, then warnings, then notes."""
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))
