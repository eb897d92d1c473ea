"""The few operations through which everything durable goes.

One place, so that tests can fail or die at each of them, one after the other.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class Disk:
    """The real disk."""

    def make_folder(self, path: Path) -> None:
        """Make the folder `path`, which must not be there yet."""
        path.mkdir(parents=True)

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file and wait until its content is on the disk."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in the folder `path` are on the disk."""
        if os.name == "nt":  # folders cannot be opened there; the file system orders names itself
            return
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder its final name, in one step."""
        os.replace(old, new)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder with what is in it, if it is there."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def free(self, path: Path) -> int:
        """Return the free bytes of the disk that holds `path`."""
        return shutil.disk_usage(path).free


DISK = Disk()


def replace_file(path: Path, data: bytes, disk: Disk = DISK) -> None:
    """Give the file `path` new content: after a crash it holds either the old or the new.

    A process that dies here leaves a part of the new one beside it, see `remove_partials`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    disk.remove(partial)
    disk.write(partial, data)
    disk.rename(partial, path)
    disk.sync_folder(path.parent)


def remove_partials(folder: Path, pid: int) -> None:
    """Remove what process `pid`, which is dead, was writing in `folder` or below by `replace_file`.

    Others may be writing there just now: what is theirs stays.
    """
    for place, _, names in os.walk(folder):  # which passes over what others just removed
        for name in names:
            if name.startswith(".") and name.endswith(f".{pid}"):
                Path(place, name).unlink(missing_ok=True)
