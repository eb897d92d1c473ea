"""Is an image file whole, and does it ask for no more than a file of its size may?

Pillow decodes some files without a word whose image data ends too early: a JPEG that was cut and
given a new end mark, a PNG whose data was written for fewer rows. And some small files cost
minutes: a JPEG of thousands of scans. Both are looked for here, in the bytes.

Known misses: a JPEG that lost a piece from its middle, or less than its last 16 x 16 pixels; a
progressive JPEG that was cut between two of its scans: it is whole, but coarse.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_SCANNED = 1_500_000_000
"""Pixels times scans of a JPEG: a second or two. Cameras and programs write up to a dozen scans."""
MAX_PIECES = 50_000
"""Chunks of a PNG, segments of a JPEG, blocks of a GIF up to the end of its first frame. Each costs
some microseconds; 64 megapixels in pieces of 8 KB are 24,000."""
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""What ends the data of a JPEG scan; \\xff00 and the restart marks are part of it."""
FILLER = bytes(1 + 89 * i % 254 for i in range(64))
"""Put before the end of a JPEG: changes nothing, unless the decoder is still hungry."""


class Damaged(ValueError):
    """The file is not whole; the text says how."""


def check_after(data: bytes, stored: ImageFile, open_again: Callable[[bytes], ImageFile]) -> None:
    """Refuse a loaded image of which pixels are missing.

    Raises:
        Damaged: saying what is wrong.
    """
    if stored.format == "JPEG":
        _check_jpeg(data, stored, open_again)
    elif stored.format == "PNG" and _looks_unfinished(stored) and _lacks_rows(data):
        raise Damaged("its image data ends too early")


def check_before(data: bytes, size: tuple[int, int]) -> None:
    """Refuse what is damaged or costs too much, by the structure of the file.

    Raises:
        Damaged: saying what is wrong.
    """
    if data.startswith(b"\x89PNG"):
        for _ in png_chunks(data):
            pass
    elif data.startswith(b"\xff\xd8"):
        scans, _ = jpeg_scans(data)
        if scans * size[0] * size[1] > MAX_SCANNED:
            raise Damaged(f"{scans} scans of {size[0]} x {size[1]} pixels")


def check_pieces(data: bytes) -> None:
    """Refuse a file in more than MAX_PIECES pieces, before anyone walks through them.

    Raises:
        Damaged: saying so.
    """
    walk = _steps_of(data)
    for count, _ in enumerate(walk):
        if count > MAX_PIECES:
            raise Damaged(f"more than {MAX_PIECES:,} pieces")


def _steps_of(data: bytes) -> Iterator[int]:
    """Yield the position of each piece of a PNG, JPEG or GIF; nothing is checked."""
    if data.startswith(b"\x89PNG"):
        at = 8
        while at + 8 <= len(data):
            yield at
            at += 12 + int.from_bytes(data[at : at + 4], "big")
    elif data.startswith(b"\xff\xd8"):
        for mark, at in _segments(data):
            if mark == 0xD9:
                return
            yield at
    elif data.startswith(b"GIF8"):
        yield from _gif_blocks(data)


def _gif_blocks(data: bytes) -> Iterator[int]:
    flags = data[10] if len(data) > 12 else 0
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while at + 10 < len(data) and data[at] in b"!,":
        frame = data[at : at + 1] == b","
        local = data[at + 9]
        at += 11 + (3 << (local & 7) + 1 if local & 0x80 else 0) if frame else 2
        while at < len(data) and data[at]:
            yield at
            at += data[at] + 1
        yield at
        at += 1
        if frame:
            return


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and content of the chunks of a PNG up to its end, their checksums compared.

    Raises:
        Damaged: if a checksum is wrong, or the file ends before its end mark.
    """
    view, at = memoryview(data), 8
    while True:
        if at + 12 > len(data):
            raise Damaged("truncated")
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        kind = data[at + 4 : at + 8]
        if end > len(data):
            raise Damaged("truncated")
        if kind == b"IEND":  # holds nothing that could be wrong
            return
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise Damaged(f"wrong checksum of {kind.decode('ascii', 'backslashreplace')}")
        yield kind, view[at + 8 : end - 4]
        at = end


def jpeg_scans(data: bytes) -> tuple[int, int]:
    """Return the number of scans of a JPEG and the position of its end mark; -1 if it has none."""
    scans = 0
    for mark, at in _segments(data):
        if mark == 0xD9:
            return scans, at
        scans += mark == 0xDA
    return scans, -1


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield mark and position of the segments of a JPEG."""
    at = 2
    while found := MARKER.search(data, at):
        mark, start = found[1][0], found.start()
        while data[start - 1] == 0xFF:  # a mark may stand behind any number of these
            start -= 1
        yield mark, start
        at = found.end()
        if mark not in (0x01, 0xD8):  # these have no length
            at += max(2, int.from_bytes(data[at : at + 2], "big"))


def _check_jpeg(data: bytes, stored: ImageFile, open_again: Callable[[bytes], ImageFile]) -> None:
    """Refuse a JPEG that was cut and given a new end mark.

    Its missing blocks are even. So where the last block is even, and in progressive ones always,
    it is decoded once more with some bytes in front of the end mark: a whole file ignores them.
    """
    if not (stored.info.get("progressive") or _ends_even(stored)):
        return
    _, end = jpeg_scans(data)
    if end < 0:
        return
    again = open_again(data[:end] + FILLER + data[end:])
    again.load()
    if again.tobytes() != stored.tobytes():
        raise Damaged("its image data ends too early")


def _ends_even(stored: ImageFile) -> bool:
    width, height = stored.size
    block = stored.crop(((width - 1) // 8 * 8, (height - 1) // 8 * 8, width, height))
    pixels = np.asarray(block)
    return bool((pixels == pixels[0, 0]).all())


def _looks_unfinished(stored: ImageFile) -> bool:
    """Return whether one of the last two rows is all zero, as rows that never came are."""
    width, height = stored.size
    rows = np.asarray(stored.crop((0, max(0, height - 2), width, height)))
    return not all(row.any() for row in rows)


def _lacks_rows(data: bytes) -> bool:
    """Return whether a PNG has less image data than its size asks for."""
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    depth = bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    missing = 0
    for x, y, right, down in passes:
        columns, rows = -(-(width - x) // right), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + (columns * depth + 7) // 8)
    inflate = zlib.decompressobj()
    for kind, content in png_chunks(data):
        rest: bytes | memoryview = content if kind == b"IDAT" else b""
        while rest and missing > 0 and not inflate.eof:
            missing -= len(inflate.decompress(rest, 1 << 20))
            rest = inflate.unconsumed_tail
    return missing > 0


ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
"""Of each pass: first column and row, steps to the right and down."""

STRANGERS = (
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"%PDF", "PDF"),
    (b"PK", "a ZIP archive"), (b"\x1f\x8b", "a gzip archive"), (b"8BPS", "a Photoshop file"),
    (b"\0\0\1\0", "an icon"),
    (b"\0\0\0\x0cjP", "JPEG 2000"), (b"\xffO\xffQ", "JPEG 2000"), (b"%!PS", "PostScript"),
    (b"<?xml", "XML"), (b"<svg", "SVG"), (b"<!DOC", "a web page"), (b"<html", "a web page"),
    (b"<HTML", "a web page"), (b"{", "JSON"), (b"version https://git-lfs", "a Git LFS pointer"),
)  # fmt: skip


def looks_like(data: bytes) -> str:
    """Return what `data` seems to be instead of an image that is read, or nothing.

    >>> looks_like(b"<!DOCTYPE html>"), looks_like(bytes(20))
    ('a web page', '')
    """
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIC or a film"
    start = data[:64].lstrip()
    names = (name for magic, name in STRANGERS if data.startswith(magic) or start.startswith(magic))
    return next(names, "")
