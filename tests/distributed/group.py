"""Real processes that train together: started at once, with everything imported, on loopback."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.distributed.notes import Notes
from pellucid.distributed.stores import PrefixStore, host

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pellucid.public"])
LIMIT = 300.0
"""Seconds after which a test gives up; nothing here is judged by a clock but what says so."""


@dataclass
class Job:
    """Processes that were started, what they say, and where each of them is."""

    folder: Path
    processes: list[multiprocessing.process.BaseProcess]
    store: Any

    def where(self, rank: int, sitting: int = 0) -> str:
        """Return what a process did last."""
        notes = PrefixStore(f"pellucid/0/{sitting}", self.store)
        return Notes(notes, -1, len(self.processes), LIMIT).where(rank)

    def wait_for(self, rank: int, text: str) -> None:
        """Return when a process has come to `text`."""
        until = time.monotonic() + LIMIT
        while text not in self.where(rank):
            assert self.processes[rank].is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)

    def said(self, rank: int) -> dict[str, Any]:
        """Return what a process gave back."""
        path = self.folder / f"rank-{rank}.json"
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def end(self) -> list[dict[str, Any]]:
        """Wait for all processes; return what each gave back."""
        for process in self.processes:
            process.join(LIMIT)
        results = [self.said(rank) for rank in range(len(self.processes))]
        assert not [said for said in results if "traceback" in said], results
        return results


def at_home(rank: int, size: int, port: int, folder: Path, work: Callable[..., Any], *args: Any):
    """Do `work` as one of several processes, and keep what it returns or raises."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True",
    )  # fmt: skip
    try:
        said = work(rank, folder, *args)
    except BaseException:
        said = {"traceback": traceback.format_exc()}
    (folder / f"rank-{rank}.json").write_text(json.dumps(said), encoding="utf-8")


@contextmanager
def job(size: int, folder: Path, work: Callable[..., Any], *args: Any) -> Iterator[Job]:
    """Let `size` processes do `work(rank, folder, *args)`, which returns plain values for JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    store, port = host(size)
    processes = [
        CONTEXT.Process(target=at_home, args=(rank, size, port, folder, work, *args))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        yield Job(folder, processes, store)
    finally:
        for process in processes:
            process.kill()
            process.join()
