"""What the processes of a job write down for each other: where each is, and how it ended.

The notes lie in the store at which they met. When adding up fails because somebody is gone, they
tell who, and what that process did last.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from pellucid.distributed.stores import Store
from pellucid.errors import Ended, LostProcess

GRACE = 4.0
"""Seconds in which all who live have noticed that somebody is gone."""
BEAT = 0.5
"""Seconds between two signs of life."""


@dataclass(frozen=True)
class End:
    """How a process ended.

    Args:
        rank: of the process.
        code: its exit code.
        text: why, for a person; empty where it said so itself.
    """

    rank: int
    code: int
    text: str


class Notes:
    """The notes of one job.

    Args:
        store: shared by its processes; this object's alone in this process.
        rank: of this process.
        size: number of processes.
        timeout: seconds without a sign of life after which a process is lost.
    """

    def __init__(self, store: Store, rank: int, size: int, timeout: float) -> None:
        self.store = store
        self.rank = rank
        self.size = size
        self.timeout = timeout
        self._beats: dict[int, tuple[str, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="signs of life", daemon=True)

    def begin(self) -> None:
        """Give signs of life from now on, however long this process is busy with something."""
        self._thread.start()

    def close(self) -> None:
        """Give none any more."""
        self._over.set()
        self._thread.join()

    def at(self, where: str) -> None:
        """Write down what this process is about to do. Costs some microseconds."""
        self.store.set(f"at/{self.rank}", where)

    def tell(self, key: str, text: str) -> None:
        """Write down `text` for who waits for it."""
        self.store.set(key, text)

    def end(self, code: int, text: str = "", rank: int | None = None) -> None:
        """Write down how this process ended, or another one that cannot say so any more."""
        rank = self.rank if rank is None else rank
        self.store.set(f"end/{rank}", json.dumps({"code": code, "text": text}))

    def hear(self, key: str, ranks: Iterable[int], what: str) -> dict[int, str]:
        """Return what each of `ranks` wrote down as `key/RANK`; wait for it as long as they live.

        Args:
            key: of the notes.
            ranks: to wait for.
            what: is waited for, in words.

        Raises:
            LostProcess: if one of them gave no sign of life for `timeout` seconds.
            Ended: if one of them ended, and has said why.
        """
        waiting, found = set(ranks), {}
        self._beats.clear()
        self.at(what)
        while waiting:
            for rank in sorted(waiting):
                text = self._read(f"{key}/{rank}")
                if text is not None:
                    found[rank] = text
                    waiting.discard(rank)
                elif self._silent(rank):
                    raise LostProcess(self._text([rank]))
            ended = self.ended()
            if ended:
                raise self.after(ended)
            if waiting:
                time.sleep(0.02)
        return found

    def lost(self, error: Exception) -> LostProcess | Ended:
        """Return what happened when adding up failed with `error`: who is gone, and since when."""
        text = " ".join(str(error).split())[:200]
        try:
            self.store.set(f"lost/{self.rank}", text)
            others = set(range(self.size)) - {self.rank}
            until = time.monotonic() + GRACE
            while time.monotonic() < until:
                silent = {r for r in others if self._read(f"lost/{r}") is None}
                ended = self.ended()
                if ended or not silent:
                    break
                time.sleep(0.05)
            if ended:
                return self.after(ended)
            if silent:
                who, mine = self._text(sorted(silent)), min(set(range(self.size)) - silent)
                return LostProcess(who) if mine == self.rank else Ended(1)
        except RuntimeError:
            return LostProcess(
                "The store that the processes met at is gone, and with it the process that kept "
                "it: the launcher, torchrun, or rank 0. Training cannot go on."
            )
        return LostProcess(f"The processes could not add up their results: {text}.")

    def after(self, ended: Iterable[End]) -> LostProcess | Ended:
        """Return the error to end with, given how others ended."""
        silent = [end for end in ended if not end.text]
        if silent:  # it has shown its error itself
            return Ended(silent[0].code)
        end = min(ended, key=lambda end: end.rank)
        gone = {end.rank for end in ended}
        first = min(set(range(self.size)) - gone) == self.rank
        return LostProcess(self._text([end.rank], end.text)) if first else Ended(1)

    def ended(self) -> list[End]:
        """Return how other processes have ended in failure so far."""
        found = []
        for rank in range(self.size):
            text = self._read(f"end/{rank}") if rank != self.rank else None
            if text is not None:
                found.append(End(rank, **json.loads(text)))
        return [end for end in found if end.code]

    def where(self, rank: int) -> str:
        """Return what a process did last, in words."""
        return self._read(f"at/{rank}") or "it never came to training"

    def _text(self, ranks: list[int], why: str = "gave no sign of life any more") -> str:
        lines = [f"rank {rank} {why}; the last it reached: {self.where(rank)}" for rank in ranks]
        return (
            f"The training of {self.size} processes ended: {'; '.join(lines)}. What was saved "
            "before is untouched; go on with: pellucid resume latest"
        )

    def _read(self, key: str) -> str | None:
        return self.store.get(key).decode() if self.store.check([key]) else None

    def _silent(self, rank: int) -> bool:
        now = time.monotonic()
        beat = self._read(f"beat/{rank}") or ""
        before = self._beats.get(rank)
        if before is None or before[0] != beat:
            self._beats[rank] = (beat, now)
            return False
        return now - before[1] > self.timeout

    def _live(self) -> None:
        number = 0
        while not self._over.wait(BEAT):
            number += 1
            try:
                self.store.set(f"beat/{self.rank}", str(number))
            except RuntimeError:  # the store is gone; who adds up next will say so
                return
