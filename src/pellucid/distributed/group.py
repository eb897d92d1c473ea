"""One process, or several that add up, agree and end together."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pellucid.distributed.flat import Flat
from pellucid.distributed.notes import Notes
from pellucid.distributed.place import Place, place
from pellucid.distributed.stores import PrefixStore, keep_store, visit
from pellucid.errors import BadRecipe, Drifted, Ended, LostProcess, PellucidError

_sittings = itertools.count()
"""One process may train several times; each time its notes have names of their own."""


class Processes(Protocol):
    """What an engine asks of the processes that train together."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def place(self) -> Place | None:
        """Where this process is among them; None if it trains alone."""

    def sum(self, model: nn.Module, total: Tensor, step: int) -> Tensor:
        """Add up the gradients of `model` over the processes; return the sum of `total`."""

    def add(self, values: Tensor) -> None:
        """Add up `values`, on the CPU, over the processes, in place."""

    def agree(self, decide: Callable[[], bool]) -> bool:
        """Return whether `decide` is true on any process; if it fails on one, all end."""

    def compare(self, what: Callable[[], Mapping[str, Tensor]], when: str) -> None:
        """Make sure that `what` holds the same bits everywhere."""


class Alone:
    """The only process: there is nobody to add up with, or to wait for."""

    rank = 0
    size = 1
    place: Place | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def sum(self, model: nn.Module, total: Tensor, step: int) -> Tensor:
        """Return `total`; the gradients are whole already."""
        del model, step
        return total

    def add(self, values: Tensor) -> None:
        """Do nothing."""

    def agree(self, decide: Callable[[], bool]) -> bool:
        """Return what `decide` says."""
        return decide()

    def compare(self, what: Callable[[], Mapping[str, Tensor]], when: str) -> None:
        """Do nothing."""

    def limit(self, timeout: float) -> None:
        """Do nothing: nobody is waited for."""

    def tell(self, key: str, text: str) -> None:
        """Do nothing: nobody listens."""

    def join(self, device: torch.device) -> None:
        """Do nothing."""

    def hand_out(self, message: Callable[[], list[bytes]]) -> list[bytes]:
        """Return nothing: nobody needs it."""
        del message
        return []


class Together:
    """One of several processes.

    Used in a `with`: at its end the others are told if this one fails.

    Args:
        place: of this process.
        timeout: seconds after which one that does not answer is lost.
    """

    def __init__(self, place: Place, timeout: float) -> None:
        self.place: Place | None = place
        self.rank = place.rank
        self.size = place.size
        self.timeout = timeout
        if place.rank == 0 and not place.hosted:
            keep_store(place)
        name = f"pellucid/{place.restarts}/{next(_sittings)}"
        self._store = PrefixStore(f"{name}/group", visit(place, timeout))
        # Of its own, since a store is used by one thread at a time: signs of life must not wait.
        notes = PrefixStore(name, visit(place, timeout))
        self.notes = Notes(notes, place.rank, place.size, timeout)
        self._flat: Flat | None = None
        self._where = "the start"

    def __enter__(self) -> Self:
        self.notes.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.notes.close()
        if error is not None and not isinstance(error, Ended | LostProcess):
            shown = isinstance(error, PellucidError | KeyboardInterrupt | OSError)
            text = "" if shown else f"failed ({type(error).__name__}: {error})"[:300]
            _quietly(lambda: self.notes.end(_exit_code(error), text))
        if dist.is_initialized():
            _quietly(dist.destroy_process_group)

    def limit(self, timeout: float) -> None:
        """Take `timeout` from now on; to be called before `join`."""
        self.timeout = self.notes.timeout = timeout

    def tell(self, key: str, text: str) -> None:
        """Write `text` down for those that wait for it."""
        self.notes.tell(f"{key}/{self.rank}", text)

    def hear(self, key: str, what: str) -> str:
        """Return what rank 0 tells as `key`, however long it takes, as long as rank 0 lives."""
        return self.notes.hear(key, [0], what)[0]

    def join(self, device: torch.device) -> None:
        """Wait until all processes are ready, then connect them.

        On a GPU with NCCL; what is not on a GPU goes by gloo.
        """
        if self.place and self.place.one_machine and Path("/sys/class/net/lo").exists():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # no other machine need reach us
        self.tell("ready", "")
        self.notes.hear("ready", range(self.size), "waiting for the others")
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        self._call(
            "connecting",
            lambda: dist.init_process_group(
                backend,
                store=self._store,
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=self.timeout),
            ),
        )

    def sum(self, model: nn.Module, total: Tensor, step: int) -> Tensor:
        """Add up the gradients of `model` over the processes, in place; return the sum of `total`.

        Once per step, after its last piece. The running statistics of normalisation become equal
        here as well: see `Flat`.

        Args:
            model: that was run on this process's images.
            total: their loss, weighted by their share of the step's images.
            step: steps done, for messages.
        """
        self._where = f"step {step + 1:,}"
        if self._flat is None or not self._flat.fits(model):
            self._flat = Flat.of(model)
        return self._flat.add(
            total, self.rank == 0,
            lambda vector: self._call("adding up gradients", lambda: dist.all_reduce(vector)),
        )  # fmt: skip

    def add(self, values: Tensor) -> None:
        """Add up `values`, on the CPU, over the processes, in place."""
        self._call("evaluating", lambda: dist.all_reduce(values))

    def agree(self, decide: Callable[[], bool]) -> bool:
        """Return whether `decide` is true on any process; if it fails on one, all end.

        Raises:
            Ended: if it failed on another one, with the exit code of that.
        """
        said = torch.zeros(2, dtype=torch.int64)
        try:
            said[0] = decide()
        except BaseException as error:
            said[1] = _exit_code(error)
            _quietly(lambda: self._agree(said))
            raise
        self._agree(said)
        if said[1]:
            raise Ended(int(said[1]))
        return bool(said[0])

    def compare(self, what: Callable[[], Mapping[str, Tensor]], when: str) -> None:
        """Make sure that `what` holds the same bits everywhere.

        Args:
            what: returns tensors on the CPU by name.
            when: in words.

        Raises:
            Drifted: naming the processes that differ, and the first tensor that does.
        """
        tensors = what()
        names = sorted(tensors)
        digests = [hashlib.sha256(name.encode() + _bytes(tensors[name])).digest() for name in names]
        whole = hashlib.sha256(b"".join(digests)).digest()
        others = self._odd(whole)
        if not others:
            return
        first = "what is saved has other names"
        if not self._odd(hashlib.sha256("\n".join(names).encode()).digest()):
            first = next(n for n, d in zip(names, digests, strict=True) if self._odd(d))
        ranks = " and ".join(f"rank {rank}" for rank in others)
        raise Drifted(
            f"The processes differ {when}: {first} of {ranks} is not that of the others. They "
            "were started on different things, or computed the same thing differently: other "
            "hardware or versions, a memory fault, or a model that keeps a state of its own. What "
            "was saved before is untouched."
        )

    def hand_out(self, message: Callable[[], list[bytes]]) -> list[bytes]:
        """Return on each process what `message` returns on rank 0; only there it is called."""
        parts = message() if self.rank == 0 else []
        count = torch.tensor([len(parts)])
        self._call("starting", lambda: dist.broadcast(count, 0))
        sizes = torch.tensor([len(p) for p in parts] or [0] * int(count), dtype=torch.int64)
        self._call("starting", lambda: dist.broadcast(sizes, 0))
        found = []
        for number, size in enumerate(sizes.tolist()):
            given = parts[number] if parts else bytes(size)
            data = torch.frombuffer(bytearray(given or b"\0"), dtype=torch.uint8)
            self._call("starting", lambda data=data: dist.broadcast(data, 0))  # type: ignore[misc]
            found.append(data.numpy().tobytes()[:size])
        return found

    def _agree(self, said: Tensor) -> None:
        self._call("agreeing to go on", lambda: dist.all_reduce(said, dist.ReduceOp.MAX))

    def _odd(self, digest: bytes) -> list[int]:
        """Return the ranks whose `digest` is not that of most, or of rank 0 if none has most."""
        table = torch.zeros(self.size, len(digest), dtype=torch.uint8)
        table[self.rank] = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
        self._call("comparing", lambda: dist.all_reduce(table))
        found = [bytes(row.tolist()) for row in table]
        usual = max(found, key=lambda d: (found.count(d), d == found[0]))
        return [rank for rank, d in enumerate(found) if d != usual]

    def _call(self, what: str, work: Callable[[], Any]) -> None:
        try:
            self.notes.at(f"{self._where}, {what}")
            work()
        except RuntimeError as error:
            raise self.notes.lost(error) from error


def connect(timeout: float) -> Alone | Together:
    """Return the processes that the environment of this one names, or this one alone.

    Raises:
        BadRecipe: if that environment is incomplete, or the port where they meet is in use.
    """
    here = place()
    if here is None:
        return Alone()
    if dist.is_initialized():
        raise BadRecipe(
            "torch.distributed is in use in this process already. pellucid connects the processes "
            "of a job itself: leave init_process_group out."
        )
    return Together(here, timeout)


def _bytes(tensor: Tensor) -> bytes:
    return (
        tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    )


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, PellucidError) else 1


def _quietly(work: Callable[[], Any]) -> None:
    """Do `work` on the way out of an error that matters more than one in it."""
    with contextlib.suppress(RuntimeError, PellucidError):
        work()
