"""Exercises: a function to complete, tested by its properties rather than by its text.

What a learner writes is compared with a trusted computation on cases that go from small to nasty:
random shapes, extremes, ties. The first case that fails is therefore the smallest.
"""

from __future__ import annotations

from pellucid.errors import UserError, did_you_mean
from pellucid.labs.exercise import Exercise
from pellucid.labs.exercises_early import EARLY
from pellucid.labs.exercises_late import LATE

EXERCISES: dict[str, Exercise] = {**EARLY, **LATE}
"""By the lab that they belong to."""


def exercise(lab: str) -> Exercise:
    """Return the exercise of a lab.

    Raises:
        UserError: if it has none.
    """
    if lab not in EXERCISES:
        raise UserError(
            f'The lab "{lab}" has no exercise{did_you_mean(lab, EXERCISES) or "."} '
            f"Labs that have one: {', '.join(EXERCISES)}."
        )
    return EXERCISES[lab]
