"""Writing on a thread of its own, so that training need not wait for the disk."""

from __future__ import annotations

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
        threading.Thread(target=self._do, name="writer", daemon=True).start()

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
            begun.result()

    def close(self) -> None:
        """Let the thread end when it has nothing to do any more; this does not wait for it."""
        self._given.put(None)

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
