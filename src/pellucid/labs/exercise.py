"""What an exercise of a lab is: a function to complete, and what its answers are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.seeds import generator

Case = tuple[Any, ...]


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    Args:
        function: its first line, without `def`.
        task: what it is to return.
        right: computes that, from the same arguments.
        cases: arguments to try, the smallest first.
        hints: given one at a time, after each failure; the last nearly says it.
    """

    function: str
    task: str
    right: Callable[..., Any]
    cases: Callable[[], Iterator[Case]]
    hints: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.function.partition("(")[0]


def vector(*values: float) -> Tensor:
    """Return `values` in float64."""
    return torch.tensor(values, dtype=torch.float64)


def normal(key: int, *shape: int) -> Tensor:
    """Return normal numbers in float64."""
    return torch.randn(*shape, generator=generator(0, "exercise", key), dtype=torch.float64)
