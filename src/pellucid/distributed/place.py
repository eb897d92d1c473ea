"""Which of several processes this one is, by what started it: `torchrun`, or our launcher."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import BadRecipe

COMMAND = "PELLUCID_COMMAND"
"""Set for the processes that our own launcher starts: the words of its own command, as JSON."""


@dataclass(frozen=True)
class Place:
    """One process among those that train together.

    Args:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number on this machine.
        local_size: how many there are on this machine.
        address: where the store is that they meet at.
        port: likewise.
        hosted: whether a process that started them keeps the store; else rank 0 does.
        restarts: how often `torchrun` has started the job anew.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    hosted: bool
    restarts: int

    @property
    def one_machine(self) -> bool:
        """Whether all processes are on this machine."""
        return self.local_size == self.size


def rank_here(environ: Mapping[str, str] = os.environ) -> int:
    """Return the rank of this process; 0 where it trains alone.

    >>> rank_here({"WORLD_SIZE": "2", "RANK": "1"}), rank_here({})
    (1, 0)
    """
    several = environ.get("WORLD_SIZE", "1") not in ("", "1")
    rank = environ.get("RANK", "0")
    return int(rank) if several and rank.isdecimal() else 0


def started_as_one_of_several(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether something has started this process as a rank of a job, of one perhaps."""
    return "WORLD_SIZE" in environ and "RANK" in environ


def place(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Return the place that the environment names; None where this process trains alone.

    Raises:
        BadRecipe: if the environment names it in part, or wrongly.

    >>> place({"WORLD_SIZE": "1", "RANK": "0"}) is None
    True
    """
    if not started_as_one_of_several(environ):
        return None
    size, rank = _number(environ, "WORLD_SIZE"), _number(environ, "RANK")
    if size == 1:
        return None
    local_size = _number(environ, "LOCAL_WORLD_SIZE", size)
    local_rank = _number(environ, "LOCAL_RANK", rank % max(local_size, 1))
    if not rank < size or not local_rank < local_size:
        raise BadRecipe(
            f"The environment names process {rank} of {size}, number {local_rank} of {local_size} "
            "on this machine (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE). Numbers start at "
            "0. Let torchrun set them."
        )
    return Place(
        rank, size, local_rank, local_size, _text(environ, "MASTER_ADDR"),
        _number(environ, "MASTER_PORT"), environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        _number(environ, "TORCHELASTIC_RESTART_COUNT", 0),
    )  # fmt: skip


def job(environ: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Return what tells this job from others, for the run that it begins; empty without `torchrun`.

    `torchrun` starts the same command again after a failure. The name of a job may be none or one
    that is used every day, so the process that started this one belongs to it.
    """
    if "TORCHELASTIC_RUN_ID" not in environ:
        return {}
    parent = os.getppid()
    return {
        "id": environ["TORCHELASTIC_RUN_ID"],
        "host": socket.gethostname(),
        "agent": parent,
        "since": _started(parent),
    }


def _started(pid: int) -> str:
    """Return when a process was started, in ticks since boot; empty where nobody can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _text(environ: Mapping[str, str], name: str) -> str:
    if not environ.get(name):
        raise BadRecipe(
            f"This process is one of several (RANK, WORLD_SIZE), and {name} is not set. Start "
            "them with torchrun or with --engine.procs N."
        )
    return environ[name]


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = str(default) if name not in environ and default is not None else _text(environ, name)
    if not text.isdecimal():
        raise BadRecipe(f'The environment variable {name} is a whole number. Got "{text}".')
    return int(text)
