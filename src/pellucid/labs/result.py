"""What a lab returns: a text, tables, claims, and a picture that is drawn when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


Number: TypeAlias = "float | Tensor"


@dataclass(frozen=True)
class Claim:
    """A sentence that a number proves.

    Args:
        statement: the sentence.
        measured: what was computed.
        relation: how it must lie to `expected`; `is` compares a fact (1 or 0).
        expected: the value or the limit.
        tolerance: with `=`, the largest difference that is allowed.
        trap: the number of the trap in `docs/correctness.md` that it settles, or nothing.
    """

    statement: str
    measured: float
    relation: Literal["=", "<=", ">=", "is"]
    expected: float
    tolerance: float = 0.0
    trap: str = ""

    @property
    def holds(self) -> bool:
        """Whether the number proves the sentence; one that is not a number never does."""
        if self.relation == "<=":
            return self.measured <= self.expected
        if self.relation == ">=":
            return self.measured >= self.expected
        return abs(self.measured - self.expected) <= self.tolerance

    @property
    def proof(self) -> str:
        """The comparison in figures.

        >>> equals("half of it", 0.5, 0.5, 1e-9).proof
        '0.5 = 0.5 (+- 1e-09)'
        """
        if self.relation == "is":
            return "yes" if self.measured else "no"
        end = f" (+- {self.tolerance:g})" if self.relation == "=" else ""
        return f"{self.measured:.7g} {self.relation} {self.expected:.7g}{end}"


def equals(
    statement: str, measured: Number, expected: Number, tolerance: float, trap: str = ""
) -> Claim:
    """Claim that two numbers differ by at most `tolerance`."""
    return Claim(statement, number(measured), "=", number(expected), tolerance, trap)


def at_most(statement: str, measured: Number, limit: float, trap: str = "") -> Claim:
    """Claim that a number is not above `limit`."""
    return Claim(statement, number(measured), "<=", float(limit), trap=trap)


def at_least(statement: str, measured: Number, limit: float, trap: str = "") -> Claim:
    """Claim that a number is not below `limit`."""
    return Claim(statement, number(measured), ">=", float(limit), trap=trap)


def number(value: Number) -> float:
    """Return a number that may be a tensor of one element as a plain one."""
    return float(value) if isinstance(value, int | float) else float(value.detach())


def is_true(statement: str, fact: object, trap: str = "") -> Claim:
    """Claim a fact that is no number: an order, an equality of lists, an error that was raised."""
    return Claim(statement, float(bool(fact)), "is", 1.0, trap=trap)


def agrees(statement: str, ours: Tensor, theirs: Tensor, tolerance: float, trap: str = "") -> Claim:
    """Claim that two tensors are the same, up to `tolerance` in each element.

    The measured number is the largest difference; infinite where shapes differ.

    >>> import torch
    >>> agrees("same", torch.ones(2), torch.ones(2) + 1e-3, 1e-6).holds
    False
    """
    apart = math.inf
    if ours.shape == theirs.shape:
        apart = float((ours.detach() - theirs.detach()).abs().max()) if ours.numel() else 0.0
    return at_most(statement, apart, tolerance, trap)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Return |ours - theirs| / |theirs|, in Euclidean norms; 0 if both are 0."""
    apart, size = float((ours - theirs).detach().norm()), float(theirs.detach().norm())
    return apart / size if size else apart


@dataclass(frozen=True)
class Table:
    """Rows under a head; numbers are shown with five digits.

    Args:
        head: one word or two for each column.
        rows: of numbers and texts.
        title: shown above.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""

    def cells(self) -> list[list[str]]:
        """Return the rows as texts."""
        return [[shown(value) for value in row] for row in self.rows]


def shown(value: object) -> str:
    """Return a value as a table shows it.

    >>> shown(0.1 + 0.2), shown(1e-17), shown(3), shown("w")
    ('0.3', '1e-17', '3', 'w')
    """
    return f"{value:.5g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class LabResult:
    """What a lab found.

    Args:
        text: paragraphs with an empty line between them. A line that begins with four spaces is a
            formula and stays as it is; the others are wrapped where they are shown.
        claims: all of them hold, or the lab has failed.
        draw: makes the picture.
        tables: the numbers behind it.
        values: numbers by name, for Python and JSON.
    """

    text: str
    claims: Sequence[Claim]
    draw: Callable[[], Figure] = field(repr=False)
    tables: Sequence[Table] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def figure(self) -> Figure:
        """The picture, drawn now."""
        return self.draw()

    @property
    def failed(self) -> tuple[Claim, ...]:
        """The claims that do not hold."""
        return tuple(claim for claim in self.claims if not claim.holds)

    def __str__(self) -> str:
        from pellucid.labs.page import plain

        return plain(self)
