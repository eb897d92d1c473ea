"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failed"]
ORDER: tuple[Verdict, ...] = ("ok", "warning", "failed")


@dataclass(frozen=True)
class Check:
    """The answer to one question.

    Args:
        name: what was asked.
        verdict: `failed` if training cannot go well like this, `warning` if it may be meant.
        measured: what was found, with its n.
        expected: what a sound run shows.
        advice: what to do; empty if all is well.
    """

    name: str
    verdict: Verdict
    measured: str
    expected: str
    advice: str = ""


def some(names: Iterable[str]) -> str:
    """Return the first three of `names`, and how many there are beside.

    >>> some("abcde")
    'a, b, c and 2 more'
    """
    names = list(names)
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the worst verdict of `checks`; ok if there are none.

    >>> worst([Check("a", "warning", "", ""), Check("b", "ok", "", "")])
    'warning'
    """
    return max((check.verdict for check in checks), key=ORDER.index, default="ok")
