"""What a question of a lab is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Answer = float | tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """Something to predict.

    Args:
        key: names it among those of its lab.
        text: the question.
        kind: of the answer: a number, one of `choices` (counted from 1), or all of them in order.
        reveal: computes the answer: a number, or positions in `choices` from 0.
        why: what is to be learned.
        choices: to choose from, or to put in order.
        tolerance: of a number, absolute.
        slips: wrong answers that are often given, as they are written, and the mistake behind.
    """

    key: str
    text: str
    kind: Literal["number", "choice", "order"]
    reveal: Callable[[], Answer]
    why: str
    choices: Sequence[str] = ()
    tolerance: float = 0.0
    slips: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
