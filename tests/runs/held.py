"""A disk that holds a write back, and a look at what the main thread does."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pellucid.runs import writer
from pellucid.runs.disk import Disk

LIMIT = 60.0
"""Seconds after which a test gives up; nothing here is judged by a clock."""

Log = list[tuple[str, str]]


class Held(Disk):
    """A disk that writes down what it does, and does not begin a file or folder until it may.

    Args:
        log: pairs of operation and name; other things may be written there as well.
        name: of the folder of a checkpoint, or of the file of a snapshot, that is held back.
    """

    def __init__(self, log: Log, name: str = "nothing") -> None:
        self.log = log
        self.name = name
        self.begun = threading.Event()
        self.free = threading.Event()

    def make_folder(self, path: Path) -> None:
        self.hold(path)
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        self.hold(path)
        super().write(path, data)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.log.append(("made", new.name))

    def remove(self, path: Path) -> None:
        if path.exists():
            self.log.append(("removed", path.name))
        super().remove(path)

    def hold(self, path: Path) -> None:
        """Return when `path` may be begun."""
        if self.name in path.name:
            self.begun.set()
            assert self.free.wait(LIMIT), "what waits for this one never went on"


@contextmanager
def when_main_waits(act: Callable[[], Any], disk: Held | None = None) -> Iterator[None]:
    """Call `act` once, as soon as the main thread waits for a write, if it does before the end.

    With a `disk`, the write is the one that it holds back.
    """
    left = threading.Event()

    def watch() -> None:
        while not left.is_set():
            if main_waits() and (disk is None or disk.begun.is_set()):
                act()
                return
            time.sleep(0.0005)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        left.set()
        watching.join()


def main_waits() -> bool:
    """Return whether the main thread is blocked in `Writer.wait`."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    asleep = frame is not None and frame.f_code.co_filename == threading.__file__
    while frame is not None:
        if frame.f_code.co_filename == writer.__file__ and frame.f_code.co_name == "wait":
            return asleep
        frame = frame.f_back
    return False
