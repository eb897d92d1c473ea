"""Files in an archive, read without unpacking it to the disk.

tar, gzipped tar and zip. An archive is refused as a whole if it holds anything but plain files and
folders, names that lead elsewhere or that two members share, or more than memory is to hold;
what it says of itself is not believed but counted. Archives inside it are not opened.
"""

from __future__ import annotations

import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from pellucid.errors import BadData

MAX_BYTES = 1 << 30
"""The most that an archive may unpack to: all of it may be held in memory."""
MAX_MEMBER = 256 << 20
"""The most that one member may unpack to."""
MAX_MEMBERS = 2_000_000
MAX_NAME = 1024
MAX_DEPTH = 32
MAX_DIRECTORY = 512 << 20
"""Bytes of a zip's list of members, which is read into memory as a whole."""
DRIVE = re.compile(r"[A-Za-z]:")
OTHERS = (
    (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"7z\xbc\xaf", "7z"),
    (b"Rar!", "RAR"),
)  # fmt: skip
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")


def read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each regular file in the archive, in its order.

    Nothing is written. Members with names that start with a dot, as some systems add, are left out.

    Raises:
        BadData: naming the member, if the archive is damaged, holds links, devices, two members of
            one name or names that lead elsewhere, or unpacks to more than MAX_BYTES.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            file.seek(0)
            yield from _members(path, file, start)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, UnicodeError) as error:
        raise BadData(f"{path} is damaged: {error}.") from None
    except (ValueError, OverflowError, struct.error, NotImplementedError, RuntimeError) as error:
        raise BadData(f"{path} is damaged or of a kind not read: {error}.") from None
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}.") from None


def _members(path: Path, file: IO[bytes], start: bytes) -> Iterator[tuple[str, bytes]]:
    for magic, name in OTHERS:
        if start.startswith(magic):
            raise BadData(
                f"{path} is an archive of the kind {name}, which is not read. Unpack it, or pack "
                "it as .tar.gz or .zip."
            )
    policy = _Policy(path)
    if start.startswith(b"PK"):
        yield from _zip(path, file, policy)
    else:
        yield from _tar(path, file, policy, gzipped=start.startswith(b"\x1f\x8b"))


class _Policy:
    """Says of each member whether it may be there; refuses the archive if not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: set[int] = set()
        self.total = 0

    def refuse(self, name: str, why: str) -> BadData:
        """Return the error."""
        shown = name if len(name) <= 100 else f"{name[:100]}..."
        return BadData(f"{self.path} is refused: its member {shown!a} {why}.")

    def member(self, name: str, size: int, *, folder: bool) -> str:
        """Check a member, and return its name without a leading `./`."""
        self._name(name)
        plain = name.removeprefix("./").rstrip("/")
        if not folder:  # tar archives that were appended to name their folders twice
            key = hash(unicodedata.normalize("NFC", plain).casefold())
            if key in self.names:
                raise self.refuse(name, "has the name of another one")
            self.names.add(key)
        if len(self.names) > MAX_MEMBERS:
            raise BadData(f"{self.path} holds more than {MAX_MEMBERS:,} files.")
        if size > MAX_MEMBER:
            raise self.refuse(name, f"is larger than {MAX_MEMBER:,} bytes")
        self.total += size
        if self.total > MAX_BYTES:
            raise BadData(f"{self.path} unpacks to more than {MAX_BYTES:,} bytes.")
        return plain

    def _name(self, name: str) -> None:
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\\" in name or DRIVE.match(name):
            raise self.refuse(name, "leads out of the archive")
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise self.refuse(name, "has control characters in its name")
        if len(name) > MAX_NAME or len(parts) > MAX_DEPTH:
            raise self.refuse(
                name, f"has a name of more than {MAX_NAME} letters or {MAX_DEPTH} folders"
            )


class _TarMember(tarfile.TarInfo):
    """A member whose headers, read into memory as a whole, are of sensible length."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in LONG_HEADERS and self.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        member = super()._proc_member(archive)  # type: ignore[misc]
        assert isinstance(member, tarfile.TarInfo)
        return member


LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
MAX_HEADER = 1 << 20


def _hidden(name: str) -> bool:
    return name.rsplit("/", 1)[-1].startswith(".")


def _tar(
    path: Path, file: IO[bytes], policy: _Policy, *, gzipped: bool
) -> Iterator[tuple[str, bytes]]:
    stream = _Stream(path, file, gzipped=gzipped)
    with tarfile.open(
        fileobj=cast(IO[bytes], stream), mode="r|", bufsize=1 << 16, tarinfo=_TarMember
    ) as archive:
        for member in archive:
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise policy.refuse(member.name, "is a link or device")
            name = policy.member(member.name, member.size, folder=member.isdir())
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None and not _hidden(name):
                yield name, content.read()
            # Or it keeps a record of each of 60,000 files.
            archive.members = []  # type: ignore[attr-defined]
    while stream.read(1 << 20):  # to its end, where gzip's own checksum stands
        pass


class _Stream:
    """The bytes of a file, unpacked if it is gzipped, counted as they come.

    `gzip.open` would do but for the count: a name or a piece of padding may be the bomb.
    """

    def __init__(self, path: Path, file: IO[bytes], *, gzipped: bool) -> None:
        self.path = path
        self.file = file
        self.inflate = zlib.decompressobj(31) if gzipped else None
        self.rest = b""
        self.total = 0

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        pieces: list[bytes] = []
        while size > 0 and (piece := self._piece(size)):
            pieces.append(piece)
            size -= len(piece)
            self.total += len(piece)
            if self.total > MAX_BYTES + MAX_BYTES // 4:  # a header of 512 bytes for each member
                raise BadData(f"{self.path} unpacks to more than {MAX_BYTES:,} bytes.")
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        if self.inflate is None:
            return self.file.read(min(size, 1 << 20))
        while True:
            if self.inflate.eof:  # another gzip member may follow
                self.rest = self.inflate.unused_data.lstrip(b"\0") or self.file.read(1 << 16)
                if not self.rest.lstrip(b"\0"):
                    return b""
                self.inflate = zlib.decompressobj(31)
            self.rest = self.rest or self.file.read(1 << 16)
            if not self.rest:
                raise EOFError("it ends too early")
            piece = self.inflate.decompress(self.rest, min(size, 1 << 20))
            self.rest = self.inflate.unconsumed_tail
            if piece:
                return piece


def _zip(path: Path, file: IO[bytes], policy: _Policy) -> Iterator[tuple[str, bytes]]:
    _check_directory(path, file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = []
        for member in members:  # all of them before the first is unpacked
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise policy.refuse(member.filename, "is a link or device")
            if member.orig_filename != member.filename:
                raise policy.refuse(member.orig_filename, "has control characters in its name")
            if member.flag_bits & 1:
                raise policy.refuse(member.filename, "is encrypted")
            names.append(policy.member(member.filename, member.file_size, folder=member.is_dir()))
        for member, name in zip(members, names, strict=True):
            if not member.is_dir() and not _hidden(name):
                with archive.open(member) as content:
                    yield name, content.read(MAX_MEMBER + 1)


def _check_directory(path: Path, file: IO[bytes]) -> None:
    """Refuse a zip whose list of members would fill the memory."""
    end = file.seek(0, 2)
    file.seek(max(0, end - 66_000))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    sizes = [struct.unpack_from("<I", tail, at + 12)[0]] if 0 <= at <= len(tail) - 22 else []
    wide = tail.rfind(b"PK\x06\x06")
    if 0 <= wide <= len(tail) - 56:
        sizes.append(struct.unpack_from("<Q", tail, wide + 40)[0])
    file.seek(0)
    if any(MAX_DIRECTORY < size != 0xFFFFFFFF for size in sizes):
        raise BadData(f"{path} is refused: its list of members takes more than {MAX_DIRECTORY:,}.")
