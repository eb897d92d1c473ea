"""Keeping other processes from writing to the same folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pellucid.errors import RunBusy
from pellucid.runs.disk import remove_partials

OWNER = ".owner.json"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it from writing to `folder`.

    The lock is the operating system's: it goes with the process, however that ends.

    Raises:
        RunBusy: if another process has it, naming that process.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = _owner(folder)
        raise RunBusy(
            f"{folder} is in use by process {who.get('pid', '?')} on {who.get('host', '?')}. "
            "Wait until it is done, or stop it."
        ) from None
    try:
        before = _owner(folder).get("pid")
        if isinstance(before, int):
            remove_partials(folder, before)
        content = {"pid": os.getpid(), "host": socket.gethostname()}
        (folder / OWNER).write_text(json.dumps(content), encoding="utf-8")
        yield
    finally:
        lock.release()


def _owner(folder: Path) -> dict[str, Any]:
    """Return who says that it holds the lock; nothing where that cannot be read just now."""
    try:
        return dict(json.loads((folder / OWNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
