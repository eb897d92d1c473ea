"""Files in a gzipped tar archive, read without unpacking it to the disk."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from pellucid.errors import BadData

MAX_BYTES = 1 << 30
"""The most that an archive may unpack to: all of it is held in memory."""


def read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each regular file in the archive, in its order.

    Nothing is written. Members with names that start with a dot, as some systems add, are left out.

    Raises:
        BadData: naming the member, if the archive is damaged, holds links, devices or names that
            lead elsewhere, or unpacks to more than MAX_BYTES.
    """
    total = 0
    try:
        with gzip.open(path) as unpacked:
            with tarfile.open(fileobj=cast(IO[bytes], unpacked), mode="r:") as archive:
                for member in archive:
                    _check(path, member)
                    total += member.size
                    if total > MAX_BYTES:
                        raise BadData(f"{path} unpacks to more than {MAX_BYTES:,} bytes.")
                    file = archive.extractfile(member) if member.isreg() else None
                    if file is not None and not member.name.rsplit("/", 1)[-1].startswith("."):
                        yield member.name.removeprefix("./"), file.read()
                    # Or it keeps a record of each of 60,000 files.
                    archive.members = []  # type: ignore[attr-defined]
            while unpacked.read(1 << 20):  # to its end, where gzip's own checksum stands
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path} is damaged: {error}.") from None
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}.") from None


def _check(path: Path, member: tarfile.TarInfo) -> None:
    if not (member.isreg() or member.isdir()):
        raise BadData(f"{path} is refused: its member {member.name!a} is a link or device.")
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise BadData(f"{path} is refused: its member {member.name!a} leads out of the archive.")
