"""The boards of a run, each in a thread of its own, so that training does not wait for them.

A board can be slow, absent, or break in the middle of a run. What waits for it is bounded: when
there is no room, what comes is dropped and counted. A board that fails is switched off with one
warning. No number of a run depends on a board.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from torch import Tensor

from pellucid.boardspec import TensorBoardSpec, VisdomSpec
from pellucid.sinks.board import Board, BoardFailed, Look, Story
from pellucid.sinks.charts import Row
from pellucid.sinks.console import count
from pellucid.sinks.tensorboard import TensorBoard
from pellucid.sinks.visdom import Visdom

Job = Callable[[], None]

ROOM = {"rows": 2000, "looks": 2}
"""How much may wait for a board: rows are small, a look holds a copy of all weights."""

PAUSE = 1.0
"""Seconds between two deliveries: a server on the same machine takes its time from training."""

PATIENCE = 15.0
"""Seconds, at most, that the end of a run waits for its boards: longer than a request may take."""


class Boards:
    """All boards of a run; without one, nothing happens.

    It is used from the thread that trains, and only there says what went wrong.

    Args:
        boards: what shows the run.
        say: takes a line for people, as `Console.line` does.
        pause: seconds between two deliveries to a board.
        patience: seconds, at most, that `close` waits for all of them together.

    >>> with Boards([], print) as boards:
    ...     boards.rows([{"kind": "step", "step": 1, "loss": 0.5}])
    """

    def __init__(
        self,
        boards: Sequence[Board],
        say: Callable[[str], None],
        *,
        pause: float = PAUSE,
        patience: float = PATIENCE,
    ) -> None:
        self.say = say
        self.patience = patience
        self._workers = [Worker(board, pause) for board in boards]

    @classmethod
    def of(
        cls,
        tensorboard: TensorBoardSpec | None,
        visdom: VisdomSpec | None,
        say: Callable[[str], None],
    ) -> Boards:
        """Return the boards that a recipe asks for; nothing is opened yet.

        Raises:
            MissingExtra: if TensorBoard is asked for and not installed.
        """
        boards: list[Board] = []
        if tensorboard is not None:
            boards.append(TensorBoard())
        if visdom is not None:
            boards.append(Visdom(visdom))
        return cls(boards, say)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def on(self) -> bool:
        """Whether there is a board that works: ask before you make images for it."""
        return bool(self._workers)

    def open(self, story: Story) -> None:
        """Start the boards; the rows of `story` are the first that they show."""
        for worker in self._workers:
            worker.start(story)

    def rows(self, rows: Sequence[Row]) -> None:
        """Show the rows of a step, as they stand in `metrics.jsonl`.

        Called after each step, also where it has no rows: what went wrong is said then.
        """
        for worker in self._working():
            if rows and worker.room("rows", len(rows)):
                worker.put("rows", partial(worker.board.rows, list(rows)))

    def look(self, step: int, weights: Mapping[str, Tensor], samples: Tensor | None = None) -> None:
        """Show the inside of the model: filters, histograms, and the images that it trains on.

        Everything is copied first, since training goes on and changes it.

        Args:
            step: steps done.
            weights: by name, in the order of the layers, on any device.
            samples: (N, C, H, W) in [0, 1].
        """
        takers = [worker for worker in self._working() if worker.room("looks", 1)]
        if takers:
            look = Look.at(step, weights, samples)
            for worker in takers:
                worker.put("looks", partial(worker.board.look, look))

    def result(self, text: str) -> None:
        """Show what came out in the end."""
        for worker in self._working():
            worker.put("rows", partial(worker.board.result, text))

    def close(self) -> None:
        """Let the boards finish, within `patience` seconds, and say what went wrong."""
        workers = self._working()
        self._workers = []
        for worker in workers:
            worker.finish()
        end = time.monotonic() + self.patience
        for worker in workers:
            for line in worker.join(max(0.0, end - time.monotonic())):
                self.say(line)

    def _working(self) -> list[Worker]:
        """Return those that work, after saying once why another does not any more."""
        working = []
        for worker in self._workers:
            if worker.failure:
                self.say(worker.failure)
            else:
                working.append(worker)
        self._workers = working
        return working


class Worker:
    """One board with its thread and what waits for it.

    Attributes:
        failure: why the board was switched off, for people; empty while it works.
        dropped: how many rows and looks found no room.
    """

    def __init__(self, board: Board, pause: float) -> None:
        self.board = board
        self.pause = pause
        self.failure = ""
        self.dropped: Counter[str] = Counter()
        self._jobs: deque[tuple[str, Job]] = deque()
        self._waiting: Counter[str] = Counter()
        self._finishing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"board {board.name}", daemon=True)

    def start(self, story: Story) -> None:
        """Start the thread; opening the board is its first job."""
        self.put("rows", partial(self.board.open, story))
        self._thread.start()

    def room(self, kind: str, size: int) -> bool:
        """Return whether a job of `size` rows or looks may be queued; count it as dropped if not.

        Only the thread that trains adds jobs, so that the room stays until it does.
        """
        free = self._waiting[kind] < ROOM[kind]
        if not free:
            self.dropped[kind] += size
        return free

    def put(self, kind: str, job: Job) -> None:
        """Queue a job."""
        with self._changed:
            self._jobs.append((kind, job))
            self._waiting[kind] += 1
            self._changed.notify()

    def finish(self) -> None:
        """Ask the thread to do what waits, and to end."""
        with self._changed:
            self._finishing = True
            self._changed.notify()

    def join(self, seconds: float) -> list[str]:
        """Wait for the thread, and return what there is to say; later it does no further job."""
        if self._thread.ident is None:  # never started
            return []
        self._thread.join(seconds)
        name = self.board.name
        if self._thread.is_alive():
            with self._changed:
                self._jobs.clear()
            return [f"warning: {name} had not finished in time; metrics.jsonl holds all numbers."]
        if self.failure:
            return [self.failure]
        lacks = [count(n, kind.removesuffix("s")) for kind, n in self.dropped.items()]
        if lacks:
            return [f"note: {name} could not keep up: it lacks {' and '.join(lacks)}."]
        return []

    def _work(self) -> None:
        try:
            while not self._deliver():
                pass
            self.board.close()
        except Exception as error:
            why = (
                str(error) if isinstance(error, BoardFailed) else f"{type(error).__name__}: {error}"
            )
            self.failure = f"warning: {self.board.name} is switched off, training goes on: {why}"
            with contextlib.suppress(Exception):
                self.board.close()

    def _deliver(self) -> bool:
        """Do what waits, deliver it, and rest; return whether that was the last time."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._finishing)
            last = self._finishing
        while job := self._next():
            job()
        self.board.flush()
        with self._changed:  # rows may gather; a look is large, and is not kept waiting
            self._changed.wait_for(lambda: self._finishing or self._waiting["looks"], self.pause)
        return last

    def _next(self) -> Job | None:
        with self._changed:
            if not self._jobs:
                return None
            kind, job = self._jobs.popleft()
            self._waiting[kind] -= 1
            return job
