"""The child processes that decode the files of users: started when needed, watched, replaced.

A decoder that crashes, hangs or eats memory takes its child with it and nothing else: the file is
refused with the reason, and the next one gets a new child. What a child says is not believed
either: lengths, shapes and kinds are checked before they are used. `worker` is what runs there.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pellucid.data import worker
from pellucid.data.child import LIMITS, Child, Died, Limits
from pellucid.data.decode import ODD, Header, NotAnImage
from pellucid.data.measured import SIDE, Measured
from pellucid.errors import LostProcess
from pellucid.limits import usable_cores

CHUNK = 64
"""Images per task of a thread: a task costs about as much as decoding one small image."""
TICK = 0.1
"""Seconds between two looks of the watchdog."""

A = TypeVar("A")
T = TypeVar("T")


class Workers:
    """Children that decode image files, as many as there are threads that ask at the same time.

    To be used in a `with` statement; its end ends the children. They also end by themselves when
    this process is gone, however it ended.

    Args:
        limits: of each child.
        count: threads of `in_order`; by default one for each core that this process may use.

    >>> with Workers() as workers:
    ...     workers.probe(b"")
    Traceback (most recent call last):
    pellucid.data.decode.NotAnImage: the file is empty
    """

    def __init__(self, limits: Limits = LIMITS, count: int | None = None) -> None:
        self.limits = limits
        self.count = count or len(usable_cores())
        self._lock = threading.Lock()  # of what follows
        self._all: list[Child] = []
        self._free: list[Child] = []
        self._watchdog: threading.Thread | None = None
        self._closed = threading.Event()
        self._one_big = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all children, also in the middle of a file; who waits for one gets LostProcess."""
        with self._lock:
            self._closed.set()
            children, watchdog = self._all, self._watchdog
            self._all, self._free, self._watchdog = [], [], None
        for one in children:
            one.end()
        if watchdog is not None:
            watchdog.join()

    def probe(self, data: bytes) -> Header:
        """Return what `decode.probe` does.

        Raises:
            NotAnImage: with a short reason; here and below also if the child died of it.
        """
        width, height, grey, animated = self._ask(worker.HEADER.unpack, data, worker.PROBE)
        return Header(width, height, grey, animated)

    def decode(self, data: bytes, channels: int, size: int | None) -> NDArray[np.uint8]:
        """Return what `decode.decode` does.

        Raises:
            NotAnImage: with a short reason.
        """
        read = partial(_pixels, channels, size)
        return self._ask(read, data, worker.DECODE, channels, size or 0)

    def measure(self, data: bytes, wanted: bool) -> Measured:
        """Return what is measured of the image file `data`, with a preview if one is `wanted`.

        Raises:
            NotAnImage: with a short reason.
        """
        return self._ask(_measured, data, worker.MEASURE, int(wanted))

    def fitted(self, data: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Return the image file `data` as a network for images of `shape` takes it.

        Raises:
            NotAnImage: with a short reason; also if `shape` is no square and the image has not
                just that size.
        """
        channels, height, width = shape
        head = self.probe(data)
        exact = (head.width, head.height) == (width, height)
        if height != width and not exact:
            raise NotAnImage(f"it must be {width}x{height} pixels")
        return self.decode(data, channels, None if exact else height)

    def each(self, function: Callable[[A], T], items: Sequence[A]) -> Iterator[T]:
        """Yield what `function` makes of each of `items`, in order; threads call it."""

        def work(start: int) -> list[T]:
            return [function(item) for item in items[start : start + CHUNK]]

        for results in self.in_order(work, range(0, len(items), CHUNK)):
            yield from results

    def in_order(self, work: Callable[[A], T], tasks: Iterable[A]) -> Iterator[T]:
        """Yield what `work` makes of each task, worked out by `count` threads, in order.

        Tasks are taken from `tasks` by the caller's thread, only a few ahead of what was yielded.
        """
        waiting: deque[Future[T]] = deque()
        with ThreadPoolExecutor(self.count) as pool:
            try:
                for task in tasks:
                    waiting.append(pool.submit(work, task))
                    if len(waiting) > 2 * self.count:  # so many results are in memory at most
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:
                self.close()  # what is being decoded need not be: the threads end at once
                raise
            finally:
                for future in waiting:
                    future.cancel()

    def _ask(
        self, read: Callable[[bytes], T], data: bytes, kind: int, first: int = 0, second: int = 0
    ) -> T:
        """Return what `read` makes of the answer of a child."""
        one = self._taken()
        try:
            status, content = one.ask(worker.REQUEST.pack(kind, first, second, len(data)), data)
            if status == worker.BIG:
                with self._one_big:
                    one.big = True
                    status, content = one.ask(worker.GO)
                    one.big = False
            if status == worker.REFUSED:
                reason = content.decode("utf-8", "replace")
            elif status == worker.DONE:
                return read(content)
            else:
                raise ValueError(status)
        except Died as death:
            self._gone(one)
            raise NotAnImage(death.reason) from None
        except (ValueError, struct.error, msgspec.MsgspecError):
            self._gone(one)
            raise NotAnImage("the process that decoded it gave an answer without sense") from None
        except BaseException:
            self._gone(one)  # its answer would be taken for that of the next file
            raise
        finally:
            self._give_back(one)
        raise NotAnImage("".join(c for c in reason if c.isprintable())[:190])

    def _taken(self) -> Child:
        """Return a child that has nothing to do, a new one if there is none."""
        with self._lock:
            if self._closed.is_set():
                raise LostProcess("The processes that decode images were ended.")
            if self._free:
                return self._free.pop()
            one = Child(self.limits)
            self._all.append(one)
            if self._watchdog is None:
                self._watchdog = threading.Thread(
                    target=self._watch, name="pellucid-decoders", daemon=True
                )
                self._watchdog.start()
        try:
            one.wait_until_ready()
        except BaseException:
            self._gone(one)
            raise
        return one

    def _give_back(self, one: Child) -> None:
        with self._lock:
            if one in self._all:
                self._free.append(one)

    def _gone(self, one: Child) -> None:
        """End a child that is of no more use."""
        with self._lock:
            closed = self._closed.is_set()
            if one in self._all:
                self._all.remove(one)
        one.end()
        if closed:
            raise LostProcess("The processes that decode images were ended.")

    def _watch(self) -> None:
        """End the children that give no answer."""
        before = time.monotonic()
        while not self._closed.wait(TICK):
            now = time.monotonic()
            # The clock goes on while this process is stopped (Ctrl-Z), and the children with it.
            passed, before = min(now - before, 2 * TICK), now
            with self._lock:
                children = list(self._all)
            for one in children:
                one.grow_older(passed)


def _pixels(channels: int, size: int | None, content: bytes) -> NDArray[np.uint8]:
    """Return the pixels in an answer, uint8 (channels, H, W).

    Raises:
        ValueError: if they are not those that were asked for.
    """
    head = worker.SHAPE.size
    shape = worker.SHAPE.unpack(content[:head])
    if shape[0] != channels or (size and shape[1:] != (size, size)):
        raise ValueError("another shape")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape).copy()


def _measured(content: bytes) -> Measured:
    """Return what was measured.

    Raises:
        ValueError: if sizes do not fit.
        MsgspecError: if it is something else.
    """
    found = msgspec.msgpack.decode(content, type=Measured)
    seen = found.preview
    if (
        len(found.small) != SIDE * SIDE * 3
        or (seen and len(seen.content) != seen.width * seen.height * 3)
        or not ODD.keys() >= set(found.odd)
    ):
        raise ValueError("sizes do not fit")
    return found
