"""Lengths: people speak in epochs, the code in steps; the two meet here and nowhere else."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

UNITS = ("steps", "epochs", "examples", "percent")


class Duration:
    """A length of training in a unit that people use; written `"12 epochs"`.

    A plain class, not a dataclass: msgspec would read and write a dataclass as a table.

    Args:
        amount: 0 or more; exact, so that no rounding depends on the way it was written.
        unit: `steps`, `epochs`, `examples` (images seen) or `percent` (of the whole run).

    >>> Duration.parse("12 epochs").steps(per_epoch=469)
    5628
    """

    def __init__(self, amount: Fraction, unit: str) -> None:
        self.amount = amount
        self.unit = unit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f'Duration.parse("{self}")'

    @property
    def _key(self) -> tuple[Fraction, str]:
        return self.amount, self.unit

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `"12 epochs"`, `"1 epoch"`, `"500 steps"`, `"20 percent"` or `"20 %"`.

        Raises:
            ValueError: saying what is allowed.

        >>> str(Duration.parse("0.5 epoch"))
        '0.5 epochs'
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+|%)\s*", text.lower())
        unit = found.group(2) if found else ""
        unit = "percent" if unit in ("%", "percent") else unit.rstrip("s") + "s"
        if not found or unit not in UNITS:
            raise ValueError(
                f'a length is a number and a unit of {", ".join(UNITS)}, such as "12 epochs"; '
                f'got "{text}"'
            )
        return cls(Fraction(found.group(1)), unit)

    def steps(self, per_epoch: int, batch_size: int = 1, total: int = 0) -> int:
        """Return the length in steps, rounded up.

        Args:
            per_epoch: steps of one epoch.
            batch_size: images of one step, for a length in examples.
            total: steps of the whole run, for a length in percent.
        """
        unit = {
            "steps": Fraction(1),
            "epochs": Fraction(per_epoch),
            "examples": Fraction(1, batch_size),
            "percent": Fraction(total, 100),
        }[self.unit]
        return math.ceil(self.amount * unit)

    def __str__(self) -> str:
        number = f"{float(self.amount):g}" if self.amount.denominator != 1 else str(self.amount)
        singular = self.amount == 1 and self.unit != "percent"
        return f"{number} {self.unit[:-1] if singular else self.unit}"


def epochs(amount: int) -> Duration:
    """Return a length in epochs.

    >>> str(epochs(1))
    '1 epoch'
    """
    return Duration(Fraction(amount), "epochs")


def steps(amount: int) -> Duration:
    """Return a length in optimizer steps.

    >>> epochs(2).steps(per_epoch=10) == steps(20).steps(per_epoch=10)
    True
    """
    return Duration(Fraction(amount), "steps")


def due(step: int, every: int, total: int) -> bool:
    """Return whether something done each `every` steps, and at the end, is due after `step`.

    `every` 0 means at the end only.

    >>> [step for step in range(1, 11) if due(step, 4, 10)]
    [4, 8, 10]
    """
    return step == total or (every > 0 and step % every == 0)


@dataclass(frozen=True)
class Plan:
    """The lengths of one run in steps.

    Args:
        steps: optimizer steps of the whole run.
        steps_per_epoch: steps in which each training image is seen once; the last batch of an
            epoch may be smaller.
        evaluate: the model is judged each time this many steps are done, and at the end.
    """

    steps: int
    steps_per_epoch: int
    evaluate: int

    def epoch(self, step: int) -> int:
        """Return the epoch, from 1, that holds the `step`-th step, from 1; 0 before the first.

        >>> [Plan(6, 3, 3).epoch(step) for step in range(7)]
        [0, 1, 1, 1, 2, 2, 2]
        """
        return -(-step // self.steps_per_epoch)
