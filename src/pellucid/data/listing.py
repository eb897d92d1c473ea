"""What files lie in a folder: sorted, without junk, without leaving the folder."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pellucid.data.classes import tidy
from pellucid.errors import BadData, DataNotFound
from pellucid.values import Progress

JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""Left by other programs, in lower case; what starts with a dot is ignored as well."""


class Found(NamedTuple):
    """A file, with what tells whether it changed.

    Args:
        name: path relative to the folder, with `/`, composed as `tidy` does.
        path: where it lies.
        size: bytes.
        modified: mtime in ns.
        changed: ctime in ns, which also moves when someone sets mtime back.
    """

    name: str
    path: str
    size: int
    modified: int
    changed: int


@dataclass
class Listing:
    """The files and folders below a folder.

    Args:
        files: sorted by the bytes of their names.
        folders: paths relative to the folder, with `/`, as the file system spells them.
        ignored: how many entries were left out, by kind.
        refused: links that lead outside or nowhere, each with the reason.
    """

    files: list[Found] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each kind of entry that was left out."""
        return tuple(f"{count} {kind} ignored." for kind, count in sorted(self.ignored.items()))


def found(name: str, path: str, status: os.stat_result) -> Found:
    """Return the file at `path` as `name`, with its `status`."""
    return Found(name, path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def stamp(files: Iterable[tuple[Found, str, str]]) -> str:
    """Return a digest of files with their classes and parts; contents are not read."""
    hasher = hashlib.sha256()
    for (name, _, *times), label, part in files:
        hasher.update(repr((name, times, label, part)).encode())
    return hasher.hexdigest()


def scan(folder: Path, progress: Progress) -> Listing:
    """Return what lies below `folder`, as `survey` does.

    Raises:
        DataNotFound: if there is no such folder.
        BadData: if a link leads outside or nowhere, or a folder cannot be read.
    """
    listing = survey(folder, progress)
    if listing.refused:
        raise BadData(listing.refused[0][1])
    return listing


def survey(folder: Path, progress: Progress) -> Listing:
    """Return what lies below `folder`, and the links in it that are refused. Nothing is opened.

    A link to a file inside the folder counts as a file. A link to a folder is not followed, so
    there are no loops.

    Raises:
        DataNotFound: if there is no such folder.
        BadData: if a folder cannot be read.
    """
    if not folder.is_dir():
        what = "is a file, no folder" if folder.exists() else "does not exist"
        raise DataNotFound(f"The folder {folder} {what}.")
    root = os.path.realpath(folder)
    listing = Listing()
    waiting = [""]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(os.path.join(root, here)) as entries:
                for entry in entries:
                    _add(root, f"{here}{entry.name}", entry, listing, waiting)
        except OSError as error:
            place = os.path.join(root, here)
            raise BadData(f"{place} cannot be read: {error.strerror or error}.") from None
        progress("listing files", len(listing.files), 0)
    progress("listing files", len(listing.files), len(listing.files))
    listing.files.sort(key=lambda file: file.name.encode())
    listing.folders.sort()
    return listing


def _add(
    root: str, name: str, entry: os.DirEntry[str], listing: Listing, waiting: list[str]
) -> None:
    if entry.name.startswith(".") or entry.name.lower() in JUNK:
        listing.ignored["hidden or system files were"] += 1
        return
    if entry.is_symlink() and (why := _refused(root, entry)):
        listing.refused.append((tidy(name), why))
    elif entry.is_symlink() and os.path.isdir(entry.path):
        listing.ignored["links to folders were"] += 1
    elif entry.is_dir(follow_symlinks=False):
        listing.folders.append(name)
        waiting.append(f"{name}/")
    elif stat.S_ISREG((status := entry.stat()).st_mode):
        listing.files.append(found(tidy(name), entry.path, status))
    else:  # a pipe or device: opening it could hang
        listing.ignored["pipes, sockets or devices were"] += 1


def _refused(root: str, link: os.DirEntry[str]) -> str:
    """Return why `link` is refused, or nothing."""
    target = os.path.realpath(link.path)
    if os.path.commonpath([root, target]) != root:
        return (
            f"The link {link.path} leads outside the folder, to {target}. "
            "Copy what it leads to into the folder, or remove it."
        )
    if not os.path.exists(target):
        return f"The link {link.path} leads nowhere ({target}). Remove it."
    return ""


def check_twins(files: list[Found]) -> None:
    """Refuse sorted `files` of which two have names that look the same.

    Raises:
        BadData: naming both, escaped.
    """
    for first, second in zip(files, files[1:], strict=False):
        if first.name == second.name:
            raise BadData(
                f"Two files have names that look the same: {first.path!a} and {second.path!a}. "
                "Rename one."
            )
