"""Writing on a thread of its own, so that training need not wait for the disk."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

Work = Callable[[], None]


class Writer:
    """Does one piece of work at a time on a thread, until it is closed.

    There is no queue: who hands over the next piece waits for the last one first. So the pieces
    are done in their order, and no more than one is in memory. The thread does not keep the
    process alive: what is under way when that ends is cut off, as if it was killed.

    Python must not end while a thread of it is inside PyTorch: the process would abort, with all
    its work done ("FATAL: exception not rethrown"). Hence `close`, which leaves no thread behind,
    or else sees to it that the process ends without Python's clearing up.

    >>> done = []
    >>> writer = Writer()
    >>> writer.begin(lambda: done.append(1))
    >>> writer.wait()
    >>> writer.close()
    >>> done
    [1]
    """

    def __init__(self) -> None:
        self._begun: Future[None] | None = None
        self._given: SimpleQueue[tuple[Work, Future[None]] | None] = SimpleQueue()
        self._given_up = False
        self._thread = threading.Thread(target=self._do, name="writer", daemon=True)
        self._thread.start()

    def begin(self, work: Work) -> None:
        """Let the thread do `work`. What was begun before must have been waited for."""
        assert self._begun is None, "one at a time"
        self._begun = Future()
        self._given.put((work, self._begun))

    def wait(self) -> None:
        """Return when what was begun is done, if anything was; raise what it raised, once.

        A wait that is interrupted (Ctrl-C) is not taken up again: the next one returns at once.
        """
        begun, self._begun = self._begun, None
        if begun:
            try:
                begun.result()
            finally:
                self._given_up = not begun.done()

    def close(self) -> None:
        """Wait until the thread has done what was begun, let go of it, and ended.

        After a wait that was interrupted there is none here: if the thread is still busy when the
        process ends, that exits with code 130 at once.
        """
        atexit.register(self._cut_off)
        self._given.put(None)
        if not self._given_up:
            self._thread.join()
            atexit.unregister(self._cut_off)

    def _cut_off(self) -> None:
        if self._thread.is_alive():
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(130)

    def _do(self) -> None:
        while given := self._given.get():
            work, begun = given
            try:
                work()
            except BaseException as error:
                begun.set_exception(error)
            else:
                begun.set_result(None)
            del given, work, begun  # or what was written stays in memory until the next
