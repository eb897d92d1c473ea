"""Starting several processes of one training on this machine, watching them, ending them.

The store where they meet is kept here, on the loopback address, on a port that is free: so it
outlives each of them, and can say what one that is gone did last.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import torch

from pellucid.distributed.notes import GRACE, Notes
from pellucid.distributed.place import COMMAND
from pellucid.distributed.ray import connected
from pellucid.distributed.stores import LOOPBACK, PrefixStore, Store, host
from pellucid.enginespec import EngineSpec
from pellucid.errors import BadRecipe
from pellucid.limits import usable_cores

POLL = 0.05
"""Seconds between two looks at the processes."""
FAREWELL = GRACE + 2.0
"""Seconds that the others have to end by themselves after one has failed."""


class Process(Protocol):
    """A process that was started: of `subprocess`, or kept by Ray on some machine."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> object:
        """Wait until it has ended."""


@dataclass
class Child:
    """One process that was started.

    Args:
        rank: its number.
        process: running or not.
        code: its exit code, negative for a signal; None while it runs.
        ours: whether it was ended from here.
    """

    rank: int
    process: Process
    code: int | None = None
    ours: bool = False


def launch(
    command: Sequence[str],
    procs: int,
    threads: int,
    say: Callable[[str], None],
) -> int:
    """Run `command` as `procs` processes that train together; return the exit code of the job.

    Each gets its rank in the environment as `torchrun` would give it, and cores of its own where
    the system allows. The first Ctrl-C is passed on: they finish the step, save and leave.

    Args:
        command: the words of one process.
        procs: how many, at least 2.
        threads: of each; 0 shares the cores evenly.
        say: where lines for a person go.

    Raises:
        BadRecipe: if there are fewer GPUs than processes, and they would be used.
    """
    cores = usable_cores()
    _warn_of_few(procs, cores, say)
    store, port = host(procs)
    environ = {
        **os.environ,
        **_meeting(LOOPBACK, port),
        "WORLD_SIZE": str(procs),
        "LOCAL_WORLD_SIZE": str(procs),
    }
    environ.pop("TORCHELASTIC_RESTART_COUNT", None)
    environ.pop("TORCHELASTIC_RUN_ID", None)
    children: list[Child] = []
    with _passing_on(children):
        try:
            for rank in range(procs):
                own = cores[len(cores) * rank // procs : len(cores) * (rank + 1) // procs]
                own = own or [cores[rank % len(cores)]]
                if not threads:
                    environ["OMP_NUM_THREADS"] = str(len(own))
                children.append(_start(command, environ, rank, own))
            return _watch(children, _notes(store, procs), say)
        finally:
            _end(children)


def launch_on_ray(
    command: Sequence[str], recipe: str, engine: EngineSpec, say: Callable[[str], None]
) -> int:
    """Let Ray start `command` as `engine.workers` processes; return the exit code of the job.

    All else is as with `launch`: what they are told, how they are watched, Ctrl-C.

    Args:
        command: the words of one process, after the interpreter.
        recipe: text of a recipe file that is added to them; empty if they need none.
        engine: how many, and what each of them uses.
        say: where lines for a person go.

    Raises:
        MissingExtra: if Ray is not installed.
        BadRecipe: if Ray cannot be reached, or has too few CPUs or GPUs.
    """
    size, children = engine.workers, list[Child]()
    with connected() as cluster:
        cores = usable_cores() if cluster.own else []
        if cores:
            _warn_of_few(size, cores, say)
        cpus = engine.threads or max(1, len(cores) // size)
        hired = cluster.hire(size, cpus, engine.device, engine.timeout)
        here = hired[0].environ["LOCAL_WORLD_SIZE"] == str(size) and hired[0].here
        address = LOOPBACK if here else cluster.address
        store, port = host(size, 0, address, address)
        environ = _meeting(address, port)
        if not engine.threads:
            environ["OMP_NUM_THREADS"] = str(cpus)
        with _passing_on(children):
            try:
                for rank, process in enumerate(hired):
                    process.start(cluster.order(command, recipe, {**environ, **process.environ}))
                    children.append(Child(rank, process))
                return _watch(children, _notes(store, size), say)
            finally:
                _end(children)


def _meeting(address: str, port: int) -> dict[str, str]:
    """Return what the environment of each process says of the store that is kept here."""
    return {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # what says that rank 0 need not keep the store
        COMMAND: json.dumps(sys.argv),
    }


def _notes(store: Store, procs: int) -> Notes:
    return Notes(PrefixStore("pellucid/0/0", store), -1, procs, GRACE)


def _warn_of_few(procs: int, cores: list[int], say: Callable[[str], None]) -> None:
    if procs > len(cores):
        say(
            f"warning: {procs} processes share {len(cores)} "
            f"core{'s' * (len(cores) != 1)}: slower than fewer of them."
        )


def check_gpus(device: str, procs: int) -> None:
    """Refuse more processes than there are GPUs, where these would be used.

    Raises:
        BadRecipe: as said.
    """
    gpus = torch.cuda.device_count()
    if gpus < procs and (device == "cuda" or (device == "auto" and gpus)):
        raise BadRecipe(
            f"engine.procs {procs}: each process takes a GPU of its own, and this machine has "
            f"{gpus}. Start {gpus or 'none'}, or take --engine.device cpu."
        )


def _start(command: Sequence[str], environ: dict[str, str], rank: int, cores: list[int]) -> Child:
    own = {**environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    process = subprocess.Popen(  # a session of its own: a terminal's Ctrl-C comes through us
        command, env=own, stdin=subprocess.DEVNULL, start_new_session=True
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, cores)  # its threads, made later, inherit it
    return Child(rank, process)


def _watch(children: list[Child], notes: Notes, say: Callable[[str], None]) -> int:
    """Wait for all to end; when one fails, tell the others why, and end those that stay."""
    deadline: float | None = None
    while any(child.code is None for child in children):
        for child in children:
            if child.code is None and (code := child.process.poll()) is not None:
                child.code = code
                if code and deadline is None:
                    deadline = time.monotonic() + FAREWELL
                if code < 0 and not child.ours:
                    killed = f"was killed by {signal.Signals(-code).name}"
                    notes.end(1, killed, child.rank)
                    number = child.process.pid
                    say(
                        f"error: rank {child.rank} (process {number}) {killed}; the last it "
                        f"reached: {notes.where(child.rank)}"
                    )
        if deadline and time.monotonic() > deadline:
            for child in children:
                if child.code is None:
                    say(
                        f"error: rank {child.rank} (process {child.process.pid}) did not end and "
                        f"was killed; the last it reached: {notes.where(child.rank)}"
                    )
            _end(children)
        time.sleep(POLL)
    codes = [child.code or 0 for child in children]
    if any((child.code or 0) < 0 and not child.ours for child in children):
        return 1  # also where the others were told to stop, and did
    failed = [code for code in codes if code > 0] or [1 for code in codes if code]
    return codes[0] if codes[0] > 0 else next(iter(failed), 0)


def _end(children: list[Child]) -> None:
    for child in children:
        if child.process.poll() is None:
            child.ours = True
            child.process.kill()  # reaches one that is frozen too
            child.process.wait()


@contextmanager
def _passing_on(children: list[Child]) -> Iterator[None]:
    """Pass SIGINT and SIGTERM on to all processes while inside."""

    def heard(number: int, frame: FrameType | None) -> None:
        for child in children:
            child.process.send_signal(number)  # does nothing to one that has ended

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, heard) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
