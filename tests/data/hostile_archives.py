"""Hostile archives: names that lead elsewhere, links, devices, bombs, damage."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

NAMES = {
    "absolute": "/tmp/pellucid-escaped", "up": "../escaped",
    "up inside": "train/a/../../../escaped", "up at the end": "train/..", "only up": "..",
    "drive": "C:/escaped", "drive, relative": "c:escaped", "slashes": "//escaped",
    "backslash": "train\\..\\..\\escaped", "network": "\\\\host\\share\\escaped",
    "line break": "train/a\n/x.png", "escape": "train/\x1b[31m/x.png", "bell": "train/a/\x07.png",
    "deep": "a/" * 40 + "x.png", "long": "train/" + "x" * 2000,
    "up behind a point": "./../escaped", "up in the middle": "train/../../escaped/x.png",
}  # fmt: skip
"""Refused in every kind of archive."""


class Case(NamedTuple):
    name: str
    suffix: str
    data: bytes
    text: str


def cases(seed: int = 0) -> Iterator[Case]:
    for kind in ("tar", "tar.gz", "zip"):
        for name, member in NAMES.items():
            for before in (0, 3):
                title = f"{kind}: {name}, after {before}"
                yield Case(title, kind, packed(kind, member, before), "refused")
        for first, second in TWINS:
            title = f"{kind}: {first} and {second}"
            yield Case(title, kind, packed(kind, second, 0, first), "name of another")
    yield from links()
    yield from zips()
    yield from damaged(random.Random(seed))


TWINS = (
    ("train/a/x.png", "train/a/x.png"), ("train/a/x.png", "./train/a/x.png"),
    ("train/a/x.png", "train/A/X.png"), ("train/a/\u00e9.png", "train/a/e\u0301.png"),
)  # fmt: skip


def packed(kind: str, name: str, before: int = 0, first: str = "") -> bytes:
    """An archive of a few good members, and one that is not."""
    names = [*(f"train/a/{i}.png" for i in range(before)), *([first] if first else []), name]
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for at, member in enumerate(names):
                info = zipfile.ZipInfo(member)
                archive.writestr(info, bytes([at]) * 10) if member not in archive.namelist() else (
                    twice(archive, info)
                )
        return file.getvalue()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for member in names:
            info = tarfile.TarInfo(member)
            info.size = 10
            tar.addfile(info, io.BytesIO(bytes(10)))
    return gzip.compress(file.getvalue()) if kind == "tar.gz" else file.getvalue()


def twice(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    name, info.filename = info.filename, info.filename[:-1] + "?"
    archive.writestr(info, b"second")
    info.filename = name
    archive.filelist[-1].filename = name


def links() -> Iterator[Case]:
    kinds = {
        "symbolic link": (tarfile.SYMTYPE, "/etc/passwd"),
        "link up": (tarfile.SYMTYPE, "../../escaped"),
        "link inside": (tarfile.SYMTYPE, "b"),
        "hard link": (tarfile.LNKTYPE, "/etc/passwd"),
        "hard link inside": (tarfile.LNKTYPE, "train/a/0.png"),
        "pipe": (tarfile.FIFOTYPE, ""),
        "device": (tarfile.CHRTYPE, ""),
        "disk": (tarfile.BLKTYPE, ""),
        "unknown kind": (b"Z", ""),
        "continuous with a link": (tarfile.SYMTYPE, "x" * 300),
    }
    for name, (type_, target) in kinds.items():
        for mode in (0o644, 0o4777):
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode="w") as tar:
                info = tarfile.TarInfo("train/a/link")
                info.type, info.linkname, info.mode = type_, target, mode
                tar.addfile(info)
                after = tarfile.TarInfo("train/a/link/x.png")
                after.size = 3
                tar.addfile(after, io.BytesIO(b"abc"))
            refused = "refused" if type_ != b"Z" else "."
            yield Case(f"tar: {name} {mode:o}", "tar", file.getvalue(), refused)
    for kind, bits in (("link", 0o120777), ("pipe", 0o010644), ("device", 0o020644)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            info = zipfile.ZipInfo("train/a/link")
            info.external_attr = bits << 16
            archive.writestr(info, "/etc/passwd")
        yield Case(f"zip: {kind}", "zip", file.getvalue(), "link or device")


def zips() -> Iterator[Case]:
    good = packed("zip", "train/a/x.png", 2)

    def poked(find: bytes, offset: int, value: bytes) -> bytes:
        at = good.rindex(find) + offset
        return good[:at] + value + good[at + len(value) :]

    yield Case("zip: encrypted", "zip", poked(b"PK\1\2", 8, b"\1\0"), "encrypted")
    yield Case("zip: method 99", "zip", poked(b"PK\1\2", 10, b"\x63\0"), ".")
    yield Case("zip: wrong checksum", "zip", poked(b"PK\1\2", 16, b"\1\2\3\4"), "damaged")
    yield Case("zip: directory elsewhere", "zip", poked(b"PK\5\6", 16, b"\xff\xff\xff\x7f"), ".")
    yield Case("zip: huge directory", "zip", poked(b"PK\5\6", 12, b"\xff\xff\xff\x7f"), "refused")
    yield Case("zip: member elsewhere", "zip", poked(b"PK\1\2", 42, b"\xff\xff\xff\x7f"), "damaged")
    yield Case(
        "zip: NUL in a name",
        "zip",
        packed("zip", "train/a/x?y.png").replace(b"?", b"\0"),
        "control",
    )
    for name, magic in {
        "bzip2": b"BZh9", "xz": b"\xfd7zXZ\0", "zstd": b"\x28\xb5\x2f\xfd",
        "7z": b"7z\xbc\xaf'\x1c", "RAR": b"Rar!\x1a\7",
    }.items():  # fmt: skip
        yield Case(f"another kind: {name}", "tar.gz", magic + bytes(600), name)


def bombs() -> Iterator[Case]:
    """What would take more than a gigabyte, in some kilobytes."""
    yield Case(
        "bomb: a member of 2 GB", "tar.gz", gzip.compress(header("x", 2 << 30)), "larger than"
    )
    many = b"".join(header(f"train/a/{i}.png", 200 << 20) for i in range(9))
    yield Case("bomb: the sum", "tar", many[:512] + bytes(10), ".")
    chain = gzip.compress(bytes(100 << 20), 1)
    yield Case(
        "bomb: padding",
        "tar.gz",
        gzip.compress(packed("tar", "a/x.png")) + chain * 14,
        "unpacks to",
    )
    long = header("x", 1 << 30, tarfile.GNUTYPE_LONGNAME)
    yield Case("bomb: a name of 1 GB", "tar.gz", gzip.compress(long + bytes(1 << 20)), "damaged")
    pax = header("x", 1 << 30, tarfile.XHDTYPE)
    yield Case("bomb: a header of 1 GB", "tar.gz", gzip.compress(pax + bytes(1 << 20)), "damaged")
    heads = header("x", 0, tarfile.XHDTYPE) * 3000
    yield Case("bomb: headers of headers", "tar.gz", gzip.compress(heads), "damaged")
    sparse = header("x", 0, tarfile.GNUTYPE_SPARSE)
    yield Case("bomb: holes", "tar", sparse + bytes(2048), ".")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("train/a/x.png", bytes(300 << 20))
    yield Case("bomb: zip of one", "zip", file.getvalue(), "larger than")
    said = bytearray(file.getvalue())
    struct.pack_into("<I", said, said.rindex(b"PK\1\2") + 24, 10)
    yield Case("bomb: zip that says 10 bytes", "zip", bytes(said), "damaged")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("train/a/0.png", bytes(240 << 20))
    one = file.getvalue()
    yield Case("bomb: overlapping", "zip", overlapping(one, 6), "unpacks to")


def overlapping(one: bytes, count: int) -> bytes:
    """A zip of which many members are the same bytes."""
    at, end = one.rindex(b"PK\1\2"), one.rindex(b"PK\5\6")
    entry, tail = one[at:end], bytearray(one[end:])
    entries = b"".join(entry.replace(b"0.png", f"{i}.png".encode()) for i in range(count))
    struct.pack_into("<HHII", tail, 8, count, count, len(entries), at)
    return one[:at] + entries + bytes(tail)


def header(name: str, size: int, type_: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, type_
    return info.tobuf(tarfile.GNU_FORMAT)


def damaged(chance: random.Random) -> Iterator[Case]:
    for kind in ("tar.gz", "zip"):
        data = packed(kind, "train/a/x.png", 8)
        for at in sorted(
            {1, 5, 20, len(data) - 1, *(chance.randrange(len(data)) for _ in range(8))}
        ):
            yield Case(f"{kind} cut at {at}", kind, data[:at], "damaged|not")
    tar = packed("tar", "train/a/x.png", 8)
    for at in (1, 100, 300, 511, 512 * 3 + 100):
        yield Case(f"tar cut at {at}", "tar", tar[:at], "damaged")
    yield Case("no archive", "tar", b"no archive at all", "damaged")
    yield Case("nothing", "tar.gz", b"", "damaged")
    yield Case("chance", "zip", b"PK\3\4" + chance.randbytes(500), "damaged")
