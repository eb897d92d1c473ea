"""What a process may use: its cores; and, in a child that reads foreign files, less of everything.

The limits are those of the system, so what is read in such a child cannot lift them. They are
lowered only, and stay until the process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def leave_network() -> bool:
    """Take the network from this process where the system allows it; return whether it did.

    On Linux, by a network namespace of its own with nothing in it. Not in a process with threads.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    return not (libc.unshare(CLONE_NEWNET) and libc.unshare(CLONE_NEWUSER | CLONE_NEWNET))


def limit(memory: int, written: int, seconds: int | None = None) -> None:
    """Limit what this process may take from now on, where the system can (not on Windows).

    It can start no processes, and leaves no image of its memory when it crashes.

    Args:
        memory: bytes beside those that it has; on Linux.
        written: bytes of one file.
        seconds: of processor time, in all.
    """
    try:
        import resource
    except ImportError:
        return
    limits = [
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ]
    if seconds is not None:
        limits.append((resource.RLIMIT_CPU, seconds))
    with contextlib.suppress(OSError):  # no /proc: not Linux
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits.append((resource.RLIMIT_AS, pages * resource.getpagesize() + memory))
    for what, most in limits:
        hard = resource.getrlimit(what)[1]  # a limit may only be lowered
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
