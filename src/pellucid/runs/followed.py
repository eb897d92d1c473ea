"""A run that another process writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pellucid.errors import BadRun
from pellucid.runs.folder import Run


class FollowedRun(Run):
    """A run as the processes have it that do not own its folder: all but rank 0.

    Attributes:
        stopped: whether it was stopped, to be resumed.
    """

    def __init__(self, path: Path, stopped: bool) -> None:
        super().__init__(path)
        self.stopped = stopped

    def write(self, name: str, text: str) -> NoReturn:
        """Refuse."""
        raise BadRun(f"{self.path / name} is written by rank 0 alone.")

    def append(self, name: str, row: dict[str, Any]) -> NoReturn:
        """Refuse."""
        self.write(name, "")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse."""
        self.write(".lock", "")
        yield
