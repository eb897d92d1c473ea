"""Ctrl-C: the first one finishes the step, saves and leaves; the second one leaves at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.values import Step


class Stopper:
    """A flag that signals set. Nothing is saved inside a signal handler."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, step: Step) -> bool:
        """Return whether somebody asked to stop, whatever `step` did."""
        del step
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to SIGINT and SIGTERM while inside."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._heard) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
