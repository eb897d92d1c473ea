"""For each exercise: a right solution in another manner, and typical wrong ones that must fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .solutions_early import EARLY
from .solutions_late import LATE

Solutions = tuple[Callable[..., Any], tuple[Callable[..., Any], ...]]

SOLUTIONS: dict[str, Solutions] = {**EARLY, **LATE}
