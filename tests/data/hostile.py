"""Hostile image files, made from a seed: bombs, cuts, wrong endings, polyglots, oddities.

Each case says what must become of it:

- `refused`: an error with a reason;
- `right`: these pixels;
- `whole`: an error, or the pixels of the file that it was cut from;
- `agree`: an error, or an image that Pillow can read as well, of the same size.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Want = Literal["refused", "right", "whole", "agree"]
SIDE = (40, 28)


class Case(NamedTuple):
    name: str
    data: bytes
    want: Want
    original: bytes = b""


def cases(seed: int = 0) -> list[Case]:
    random = np.random.default_rng(seed)
    files = originals(random)
    found = [
        *cuts(files, random),
        *glued(files, random),
        *flipped_bits(files, random),
        *pngs(random),
        *jpegs(files),
        *gifs(files),
        *bmps(files),
        *webps(files),
        *strangers(files, random),
        *polyglots(files),
    ]
    return list({case.name: case for case in found}.values())  # chance may hit a place twice


def photo(random: np.random.Generator, size: tuple[int, int] = SIDE) -> Image.Image:
    """Colours that change smoothly, with some noise: none of its last blocks is even."""
    coarse = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int64)
    noisy = smooth + random.integers(-20, 21, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def originals(random: np.random.Generator) -> dict[str, bytes]:
    image = photo(random)
    pixels = np.asarray(image)
    wide = (pixels[..., 0].astype(np.uint16) << 8) + pixels[..., 1]
    frames = [photo(random) for _ in range(3)]
    return {
        "png": encoded(image, "PNG"),
        "png-grey": encoded(image.convert("L"), "PNG"),
        "png-palette": encoded(image.quantize(16), "PNG"),
        "png-16": encoded(Image.fromarray(wide), "PNG"),
        "png-alpha": encoded(image.convert("RGBA"), "PNG"),
        "jpeg": encoded(image, "JPEG"),
        "jpeg-progressive": encoded(image, "JPEG", progressive=True),
        "jpeg-grey": encoded(image.convert("L"), "JPEG"),
        "jpeg-restart": encoded(image, "JPEG", restart_marker_blocks=2),
        "jpeg-cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "gif": encoded(image.quantize(64), "GIF"),
        "gif-animated": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "bmp": encoded(image, "BMP"),
        "bmp-palette": encoded(image.quantize(16), "BMP"),
        "webp": encoded(image, "WEBP"),
        "webp-lossless": encoded(image, "WEBP", lossless=True),
        "webp-animated": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
    }


SCAN_ENDS = re.compile(rb"\xff[^\0]")


def cuts(files: dict[str, bytes], random: np.random.Generator) -> Iterator[Case]:
    """At every kind of place: in the signature, the head, the data, the last bytes."""
    for kind, data in files.items():
        n = len(data)
        places = [1, 3, 9, 17, 25, n // 10, n // 3, n // 2, n * 3 // 4, n * 19 // 20, n - 3, n - 1]
        for at in sorted({*places, *random.integers(1, n, 3).tolist()}):
            yield Case(f"{kind} cut at {at} of {n}", data[:at], "whole", data)


def glued(files: dict[str, bytes], random: np.random.Generator) -> Iterator[Case]:
    """Cut, and an end mark put behind: what looks whole to a look at the last bytes."""
    for kind in ("jpeg", "jpeg-progressive", "jpeg-grey", "jpeg-restart", "jpeg-cmyk"):
        data = files[kind]
        start = data.index(b"\xff\xda") + 14
        for at in random.integers(start, start + (len(data) - start) * 3 // 5, 5).tolist():
            if not SCAN_ENDS.search(data, at - 9, at + 9):
                yield Case(f"{kind} glued at {at}", data[:at] + b"\xff\xd9", "whole", data)
    for kind in ("png", "png-grey", "png-palette"):
        data = files[kind]
        at = data.index(b"IDAT") + 40
        yield Case(f"{kind} glued", data[:at] + chunk(b"IEND"), "refused")
    gif = files["gif"]
    yield Case("gif glued", gif[: len(gif) // 2] + b"\0;", "refused")


def flipped_bits(files: dict[str, bytes], random: np.random.Generator) -> Iterator[Case]:
    """One bit in the pixels of formats that have a checksum; anywhere in the others."""
    for kind, data in files.items():
        for _ in range(3):
            at = int(random.integers(45, len(data) - 12))
            broken = bytearray(data)
            broken[at] ^= 1 << int(random.integers(8))
            yield Case(
                f"{kind} bit {at}", bytes(broken), "whole" if "png" in kind else "agree", data
            )


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def head(width: int, height: int, bits: int = 8, colour: int = 2, *rest: int) -> bytes:
    last = (*rest, 0, 0, 0)[:3]
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, *last))


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def rows(pixels: NDArray[np.uint8]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def pngs(random: np.random.Generator) -> Iterator[Case]:
    pixels = random.integers(1, 256, (6, 5, 3), dtype=np.uint8)
    data = zlib.compress(rows(pixels))
    idat, end, five = chunk(b"IDAT", data), chunk(b"IEND"), head(5, 6)
    good = png(five, idat, end)
    split = [chunk(b"IDAT", data[i : i + 1]) for i in range(len(data))]
    bomb = zlib.compress(bytes(50_000_000), 9)

    def bad(name: str, *chunks: bytes) -> Case:
        return Case(f"png {name}", png(*chunks), "refused")

    yield Case("png by hand", good, "right", good)
    yield Case("png in chunks of a byte", png(five, *split, end), "right", good)
    yield Case("png with empty chunks", png(five, chunk(b"IDAT"), idat, end), "right", good)
    yield Case("png and more behind its end", good + b"more", "right", good)
    yield Case(
        "png with more data than pixels",
        png(five, chunk(b"IDAT", zlib.compress(rows(pixels) + bytes(10_000_000))), end),
        "right", good,
    )  # fmt: skip
    for side in (8_001, 12_000, 30_000, 60_000, 2**31 - 1):
        yield bad(f"bomb of {side}", head(side, side), idat, end)
    yield bad("bomb of one row", head(2**31 - 1, 1), idat, end)
    yield bad("no width", head(0, 6), idat, end)
    yield bad("no height", head(5, 0), idat, end)
    yield bad("3 bits", head(5, 6, 3), idat, end)
    yield bad("colour type 5", head(5, 6, 8, 5), idat, end)
    yield bad("fewer rows", five, chunk(b"IDAT", zlib.compress(rows(pixels[:2]))), end)
    yield bad("no rows", five, chunk(b"IDAT", zlib.compress(b"")), end)
    yield bad("fewer rows, interlaced", head(5, 6, 8, 2, 0, 0, 1), idat, end)
    yield bad("no data", five, end)
    yield bad("no end", five, idat)
    yield bad("no head", idat, end)
    yield bad("data that is not packed", five, chunk(b"IDAT", rows(pixels)), end)
    yield bad("length of 4 GB", five, b"\xff\xff\xff\xffIDAT" + data)
    yield bad("length of 2 GB", five, b"\x7f\xff\xff\xffIDAT" + data, end)
    yield bad("wrong checksum", five, idat[:-1] + bytes([idat[-1] ^ 1]), end)
    yield bad("wrong checksum of the head", five[:-1] + bytes([five[-1] ^ 1]), idat, end)
    yield bad("palette image without palette", head(5, 6, 8, 3), chunk(b"IDAT", b"x"), end)
    yield bad("filter 9", five, chunk(b"IDAT", zlib.compress(b"\x09" + rows(pixels)[1:])), end)
    yield bad(
        "a packed text that unpacks to 50 MB", five, chunk(b"zTXt", b"a\0\0" + bomb), idat, end
    )
    yield bad("a profile that unpacks to 50 MB", five, chunk(b"iCCP", b"a\0\0" + bomb), idat[:-9])
    yield bad("bomb of chunks", five, chunk(b"abCd") * 500_000, idat, end)
    for name, extra in {
        "two heads": head(90, 90),
        "two palettes": chunk(b"PLTE", bytes(9)) * 2,
        "transparency of a wrong length": chunk(b"tRNS", b"abc"),
        "broken gamma": chunk(b"gAMA", b"1"),
        "broken size": chunk(b"pHYs", b"1"),
        "broken EXIF": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        "EXIF in a circle": chunk(
            b"eXIf", b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0"
        ),
        "unknown critical chunk": chunk(b"ABCD", b"1"),
        "animation without frames": chunk(b"acTL", struct.pack(">II", 0, 0)),
        "animation of 4 billion frames": chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)),
        "frame outside": chunk(b"acTL", struct.pack(">II", 2, 0))
        + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 5, 6, 900, 900, 1, 1, 0, 0)),
        "text of a megabyte": chunk(b"tEXt", b"a\0" + bytes(1 << 20)),
        "bad UTF-8": chunk(b"iTXt", b"a\0\0\0\0\0\xff\xfe"),
    }.items():
        yield Case(f"png {name}", png(five, extra, idat, end), "agree")


def jpegs(files: dict[str, bytes]) -> Iterator[Case]:
    data = files["jpeg"]
    frame = data.index(b"\xff\xc0")
    scan = data.index(b"\xff\xda")

    def sized(width: int, height: int) -> bytes:
        at = frame + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]

    def poked(at: int, *values: int) -> bytes:
        return data[:at] + bytes(values) + data[at + len(values) :]

    for width, height in ((65_500, 65_500), (8_001, 8_001), (65_535, 1_000)):
        yield Case(f"jpeg bomb {width} x {height}", sized(width, height), "refused")
    yield Case("jpeg no height", sized(40, 0), "refused")
    yield Case("jpeg no width", sized(0, 28), "refused")
    yield Case("jpeg taller than its data", sized(40, 280), "refused")
    yield Case("jpeg wider than its data", sized(400, 28), "refused")
    yield Case("jpeg only marks", b"\xff\xd8\xff\xd9", "refused")
    yield Case("jpeg only start", b"\xff\xd8\xff", "refused")
    yield Case("jpeg all ff", b"\xff\xd8" + b"\xff" * 3_000_000, "refused")
    yield Case("jpeg no scan", data[:scan] + b"\xff\xd9", "refused")
    yield Case("jpeg no frame", data[:frame] + data[scan:], "refused")
    yield Case("jpeg empty scan", data[: scan + 14] + b"\xff\xd9", "refused")
    yield Case("jpeg no tables", data[:2] + data[frame:], "refused")
    for name, broken in {
        "12 bits": poked(frame + 4, 12),
        "5 components": poked(frame + 9, 5),
        "no components": poked(frame + 9, 0),
        "sampling 0": poked(frame + 11, 0),
        "sampling 15": poked(frame + 11, 0xFF),
        "table 3": poked(frame + 12, 3),
        "length 0": poked(frame + 2, 0, 0),
        "length 1": poked(frame + 2, 0, 1),
        "length 65535": poked(frame + 2, 255, 255),
        "lossless": poked(frame + 1, 0xC3),
        "arithmetic": poked(frame + 1, 0xC9),
        "hierarchical": poked(frame + 1, 0xC5),
        "scan of a strange component": poked(scan + 5, 77),
        "two frames": data[:scan] + data[frame:],
        "two starts": b"\xff\xd8" + data,
        "broken Huffman table": data.replace(
            b"\xff\xc4\x00\x1f\x00", b"\xff\xc4\x00\x1f\x00" + b"\xff" * 16, 1
        ),
        "broken EXIF": data[:2] + segment(0xE1, b"Exif\0\0" + b"\xff" * 20) + data[2:],
        "EXIF in a circle": data[:2]
        + segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0")
        + data[2:],
        "broken MPF": data[:2] + segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff") + data[2:],
        "half a profile": data[:2] + segment(0xE2, b"ICC_PROFILE\0\x01\x09abc") + data[2:],
        "a thousand comments": data[:2] + segment(0xFE, b"x" * 100) * 1000 + data[2:],
    }.items():
        yield Case(f"jpeg {name}", broken, "agree")
    yield Case(
        "jpeg bomb of segments", data[:2] + segment(0xFE, b"") * 500_000 + data[2:], "refused"
    )
    yield Case("jpeg of 40,000 scans", many_scans(files["jpeg-progressive"], 40_000), "refused")


def segment(mark: int, content: bytes) -> bytes:
    return bytes([0xFF, mark]) + struct.pack(">H", len(content) + 2) + content


def many_scans(progressive: bytes, count: int) -> bytes:
    """A picture of 40 megapixels, and scans that each go over all of it with almost no bytes."""
    at = progressive.index(b"\xff\xc2") + 5
    big = progressive[:at] + struct.pack(">HH", 6_000, 6_500) + progressive[at + 4 :]
    first = big.index(b"\xff\xda")
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + b"\x55"
    return big[:first] + scan * count + b"\xff\xd9"


def gifs(files: dict[str, bytes]) -> Iterator[Case]:
    data = files["gif"]
    table = bytes(range(12))
    screen = b"GIF89a" + struct.pack("<HH", 4, 2) + b"\x81\0\0" + table

    def frame(x: int, y: int, width: int, height: int, code: int = 2, block: bytes = LZW) -> bytes:
        return b"," + struct.pack("<HHHHB", x, y, width, height, 0) + bytes([code]) + block

    yield Case("gif by hand", screen + frame(0, 0, 4, 2) + b";", "agree")
    yield Case("gif bomb", b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + data[10:], "refused")
    yield Case("gif no size", b"GIF89a" + struct.pack("<HH", 0, 0) + b"\0\0\0;", "refused")
    yield Case("gif no frames", screen + b";", "refused")
    yield Case("gif only a head", screen, "refused")
    yield Case("gif bomb of blocks", screen + b"!\x99\0" * 500_000 + frame(0, 0, 4, 2), "refused")
    small = b"\x01\x84" * 500_000 + b"\0"
    yield Case("gif bomb of crumbs", screen + frame(0, 0, 4, 2, 2, small), "refused")
    yield Case("gif ends in a comment", screen + b"!\xfe\xff" + b"x" * 100, "refused")
    for name, broken in {
        "bomb in its frame": screen + frame(0, 0, 65_535, 65_535) + b";",
        "frame outside": screen + frame(60_000, 60_000, 4, 2) + b";",
        "frame of no size": screen + frame(0, 0, 0, 0) + b";",
        "code size 0": screen + frame(0, 0, 4, 2, 0) + b";",
        "code size 13": screen + frame(0, 0, 4, 2, 13) + b";",
        "code size 255": screen + frame(0, 0, 4, 2, 255) + b";",
        "ends early": screen + frame(0, 0, 4, 2, 2, b"\x02\x2c\x00\0") + b";",
        "no data": screen + frame(0, 0, 4, 2, 2, b"\0") + b";",
        "no palette": b"GIF89a" + struct.pack("<HH", 4, 2) + b"\0\0\0" + frame(0, 0, 4, 2) + b";",
        "transparent colour 255": screen + b"!\xf9\4\1\0\0\xff\0" + frame(0, 0, 4, 2) + b";",
        "unknown blocks": screen + b"!\x99\3abc\0" * 50 + frame(0, 0, 4, 2) + b";",
        "a thousand frames": screen + frame(0, 0, 4, 2) * 1000 + b";",
        "wrong version": b"GIF89a".replace(b"9", b"9") + data[6:],
        "no trailer": data[:-1],
    }.items():
        yield Case(f"gif {name}", broken, "agree")
    yield Case("gif of another version", b"GIF99z" + data[6:], "refused")


LZW = b"\x03\x84\x11\x05\0"


def bmps(files: dict[str, bytes]) -> Iterator[Case]:
    data = files["bmp"]

    def with_(form: str, at: int, value: int, source: bytes = data) -> bytes:
        content = bytearray(source)
        struct.pack_into(form, content, at, value)
        return bytes(content)

    yield Case("bmp bomb", with_("<i", 22, 100_000, with_("<i", 18, 100_000)), "refused")
    yield Case(
        "bmp bomb upside down", with_("<i", 22, -100_000, with_("<i", 18, 99_999)), "refused"
    )
    yield Case("bmp no width", with_("<i", 18, 0), "refused")
    yield Case("bmp no height", with_("<i", 22, 0), "refused")
    yield Case("bmp taller than its data", with_("<i", 22, 290), "refused")
    yield Case("bmp only its letters", b"BM", "refused")
    yield Case("bmp of text", b"BM is not always an image", "refused")
    for name, broken in {
        "negative width": with_("<i", 18, -40),
        "3 bits": with_("<H", 28, 3),
        "0 bits": with_("<H", 28, 0),
        "compression 99": with_("<I", 30, 99),
        "RLE of what is none": with_("<I", 30, 1),
        "fields of bits": with_("<I", 30, 3),
        "data beyond the end": with_("<I", 10, 10**9),
        "data before the start": with_("<I", 10, 0),
        "head of 0": with_("<I", 14, 0),
        "head of 4 GB": with_("<I", 14, 2**32 - 1),
        "4 billion colours": with_("<I", 46, 2**32 - 1, files["bmp-palette"]),
        "more colours than bytes": with_("<I", 46, 60_000, files["bmp-palette"]),
        "palette and RLE": with_("<I", 30, 1, files["bmp-palette"]),
    }.items():
        yield Case(f"bmp {name}", broken, "agree")


def webps(files: dict[str, bytes]) -> Iterator[Case]:
    data, lossless = files["webp"], files["webp-lossless"]

    def riff(content: bytes) -> bytes:
        return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content

    def piece(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    canvas = struct.pack("<I", 16_382)[:3] * 2
    wide = bytearray(lossless)
    struct.pack_into("<I", wide, 21, 0x3FFF | 0x3FFF << 14)
    yield Case("webp bomb", riff(piece(b"VP8X", b"\0\0\0\0" + canvas) + data[12:]), "refused")
    yield Case("webp bomb, animated", riff(piece(b"VP8X", b"\2\0\0\0" + canvas)), "refused")
    yield Case("webp bomb, lossless", bytes(wide), "refused")
    yield Case("webp only a head", riff(b""), "refused")
    yield Case("webp empty picture", riff(piece(b"VP8 ", b"")), "refused")
    yield Case("webp of another kind", riff(piece(b"VP8Z", data[20:])), "refused")
    yield Case("webp canvas without picture", riff(piece(b"VP8X", bytes(10))), "refused")
    yield Case("webp sound", b"RIFF\x10\0\0\0WAVEfmt " + bytes(20), "refused")
    for name, broken in {
        "length 0": b"RIFF" + struct.pack("<I", 0) + data[8:],
        "length of 4 GB": b"RIFF" + struct.pack("<I", 2**32 - 1) + data[8:],
        "piece of 4 GB": data[:16] + struct.pack("<I", 2**32 - 1) + data[20:],
        "broken EXIF": riff(
            piece(b"VP8X", b"\x08\0\0\0\x27\0\0\x1b\0\0") + data[12:] + piece(b"EXIF", b"\xff" * 30)
        ),
        "animation without frames": riff(
            piece(b"VP8X", b"\2\0\0\0" + bytes(6)) + piece(b"ANIM", bytes(6))
        ),
    }.items():  # fmt: skip
        yield Case(f"webp {name}", broken, "agree")


def strangers(files: dict[str, bytes], random: np.random.Generator) -> Iterator[Case]:
    """What is no image of the formats that are read, whatever its name says."""
    image = photo(random)
    for format in (
        "TIFF", "PPM", "ICO", "TGA", "PCX", "EPS", "PDF", "JPEG2000", "DDS", "SGI",
        "DIB", "ICNS", "AVIF", "QOI",
    ):  # fmt: skip
        yield Case(f"a {format}", encoded(image, format), "refused")
    yield Case("bytes of chance", random.bytes(5000), "refused")
    for name, data in {
        "nothing": b"", "a blank": b" ", "zeros": bytes(5000), "text": b"no image", "line": b"\n",
        "a web page": b"<!DOCTYPE html><html>404</html>", "svg": b"<svg/>",
        "svg bomb": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><svg/>',
        "git lfs": b"version https://git-lfs.github.com/spec/v1\n", "json": b'{"error": 403}',
        "zip": b"PK\x03\x04" + bytes(30), "gzip": zlib.compress(files["jpeg"], 9, 31),
        "heic": b"\0\0\0\x18ftypheic" + bytes(12), "film": b"\0\0\0\x18ftypisom" + bytes(12),
        "psd": b"8BPS\0\1" + bytes(30), "script": b"#!/bin/sh\necho\n",
        "elf": b"\x7fELF" + bytes(60),
        "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os.", "utf-16": "image".encode("utf-16"),
    }.items():  # fmt: skip
        yield Case(f"stranger: {name}", data, "refused")
    for kind in ("png", "jpeg", "gif", "bmp", "webp"):
        yield Case(f"a blank before a {kind}", b" " + files[kind], "refused")
        yield Case(f"{kind} with its head twice", files[kind][:12] + files[kind], "agree")
        yield Case(f"{kind} of zeros behind its head", files[kind][:12] + bytes(500), "refused")


def polyglots(files: dict[str, bytes]) -> Iterator[Case]:
    """Images that are something else as well: they are images all the same."""
    archive = io.BytesIO()
    import zipfile

    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "b")
    for kind in ("png", "jpeg", "jpeg-progressive", "gif", "bmp", "webp"):
        data = files[kind]
        for name, tail in {
            "zip": archive.getvalue(), "script": b"<script>alert(1)</script>",
            "jpeg": files["jpeg"], "zeros": bytes(3000),
        }.items():  # fmt: skip
            yield Case(f"{kind} and {name}", data + tail, "right", data)
    comment = segment(0xFE, b"*/=1;alert(1);/*")
    jpeg = files["jpeg"]
    yield Case("jpeg and script inside", jpeg[:2] + comment + jpeg[2:], "right", jpeg)
