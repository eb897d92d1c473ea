"""The one decoder: every image file becomes pixels here, for training and for everything else.

What becomes of which kind of image:

| kind                       | becomes                                                      |
|----------------------------|--------------------------------------------------------------|
| grey, 1-bit                | one channel, or three equal ones                             |
| 16-bit grey                | scaled: `round(value / 257)`, not clipped                    |
| palette                    | its colours                                                  |
| transparent                | laid on white                                                |
| CMYK                       | RGB by Pillow's formula, without a colour profile            |
| turned (EXIF orientation)  | turned upright                                               |
| animated                   | its first frame                                              |

The format is told by the first bytes, never by the name. What must be whole is looked at in
`intact`; what a hostile file can ask for is bounded before anything is decoded. Files of users are
decoded in child processes: `workers` starts them, and `worker` calls what is here.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.data.intact import Damaged, check_after, check_before, check_pieces, looks_like

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 64_000_000
BIG = 16_000_000
"""Images of more pixels than this are decoded one at a time: each may take a gigabyte."""
FORMATS = "PNG, JPEG, WebP, BMP, GIF"
TOO_LARGE = "its decoding takes more memory than it may"
VERSION = 2
"""Goes up when the same file gives other pixels, so that decoded caches are not mixed up."""

ORIENTATION = 0x0112
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16L", "I;16B", "I"})

ODD = {
    "16-bit": "grey values of 16 bits are scaled to 8, not clipped",
    "16-bit-colour": "of colours with 16 bits the upper 8 are used",
    "1-bit": "black and white of 1 bit become 0 and 255",
    "palette": "the palette's colours are looked up",
    "transparent": "what is transparent is laid on white",
    "cmyk": "CMYK becomes RGB by Pillow's formula, without a colour profile",
    "turned": "EXIF says how it is to be held, and it is turned upright",
    "animated": "of an animation the first frame is used",
    "colour-profile": "an embedded colour profile other than sRGB is not applied",
}
"""What an image may be beside 8-bit grey or RGB, and what becomes of it."""


class NotAnImage(ValueError):
    """The bytes are no image that can be read; the text is a short reason."""


class Header(NamedTuple):
    """What the head of an image file says.

    Args:
        width: pixels, as stored (before EXIF turns it).
        height: pixels, as stored.
        grey: True if the image has no colour by its kind; grey values stored as RGB are colour.
        animated: True if there is more than one frame.
    """

    width: int
    height: int
    grey: bool
    animated: bool


class Picture(NamedTuple):
    """A decoded image file, whole.

    Args:
        image: 8-bit, `L` if the file is grey by its kind, else `RGB`; upright.
        size: width and height, upright.
        kind: format and mode as stored, such as `JPEG RGB` or `PNG 16-bit grey`.
        odd: those of ODD that it is.
    """

    image: Image.Image
    size: tuple[int, int]
    kind: str
    odd: tuple[str, ...]


def probe(data: bytes) -> Header:
    """Return what the head of the image file `data` says, without decoding its pixels.

    Raises:
        NotAnImage: if the head is that of no image in FORMATS, or of one above MAX_PIXELS.
    """
    image = _open(data)
    return Header(*image.size, image.mode in GREY_MODES, _animated(image))


def decode(data: bytes, channels: int, size: int | None) -> NDArray[np.uint8]:
    """Return the pixels of the image file `data`.

    With a `size`, the largest centred square is cut out and brought to `size` x `size` with
    Pillow's bicubic filter, which averages when it makes smaller (no aliasing) and clips to
    [0, 255]. An image that has this size already keeps its pixels.

    Args:
        data: the content of a file of one of the FORMATS.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.
        size: height and width of the result, or None for those of the image.
    Returns:
        uint8 (channels, H, W).
    Raises:
        NotAnImage: with a short reason.
    """
    with _loaded(data) as stored:
        flat = flatten(stored, "L" if channels == 1 else "RGB")
        upright = _turn(flat, stored)
        fitted = upright if size is None else fit(upright, size)
    pixels = np.asarray(fitted, np.uint8)  # (H, W) or (H, W, 3)
    if channels == 1:
        return pixels[None].copy()
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def picture(data: bytes) -> Picture:
    """Return the image file `data` decoded as `decode` does it, with what it was.

    Raises:
        NotAnImage: with a short reason.
    """
    with _loaded(data) as stored:
        grey = stored.mode in GREY_MODES
        flat = flatten(stored, "L" if grey else "RGB")
        upright = _turn(flat, stored)
        kind = f"{stored.format} {MODES.get(stored.mode, stored.mode)}"
        return Picture(upright, upright.size, kind, tuple(_odd(data, stored, upright is not flat)))


MODES = {
    "1": "1-bit", "L": "grey", "LA": "grey with alpha", "P": "palette", "I;16": "16-bit grey",
    "I;16B": "16-bit grey", "I;16L": "16-bit grey", "I": "16-bit grey",
}  # fmt: skip


def _odd(data: bytes, stored: ImageFile, turned: bool) -> Iterator[str]:
    """Yield those of ODD that a loaded image is."""
    if stored.mode.startswith("I"):
        yield "16-bit"
    if stored.format == "PNG" and data[24] == 16 and not stored.mode.startswith("I"):
        yield "16-bit-colour"
    if stored.mode == "1":
        yield "1-bit"
    if stored.mode in ("P", "PA"):
        yield "palette"
    if _shows_through(stored):
        yield "transparent"
    if stored.mode == "CMYK":
        yield "cmyk"
    if turned:
        yield "turned"
    if _animated(stored):
        yield "animated"
    profile = stored.info.get("icc_profile") or b""
    if profile and b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile:
        yield "colour-profile"


def _animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a GIF looks for its second frame, and finds that it is damaged
        return True


def _shows_through(stored: Image.Image) -> bool:
    """Return whether some pixel is not opaque."""
    if stored.mode in ("RGBA", "LA", "PA"):
        return bool(np.asarray(stored.getchannel("A")).min() < 255)
    return "transparency" in stored.info


@contextmanager
def _loaded(data: bytes) -> Iterator[ImageFile]:
    """Give the image in `data` with its pixels, or raise NotAnImage."""
    stored = _open(data)
    with one_big() if stored.size[0] * stored.size[1] > BIG else nullcontext():
        try:
            check_before(data, stored.size)
            stored.load()
            check_after(data, stored, _open)
        except Damaged as error:
            raise NotAnImage(f"damaged ({error})") from None
        except MemoryError:
            raise NotAnImage(TOO_LARGE) from None
        except Exception as error:  # what a plugin raises on damaged bytes is not documented
            raise NotAnImage(_reason(error)) from None
        yield stored


_ONE_BIG = threading.Lock()


def _within_this_process() -> AbstractContextManager[object]:
    return _ONE_BIG


one_big: Callable[[], AbstractContextManager[object]] = _within_this_process
"""Lets one image of more than BIG pixels through at a time; a child process asks its parent."""


def _open(data: bytes) -> ImageFile:
    # The classes are called directly rather than through Image.open: it would try all formats
    # that Pillow knows once a file is damaged, and warn by a limit that belongs to the process.
    if not data:
        raise NotAnImage("the file is empty")
    plugin = _plugin(data)
    try:
        check_pieces(data)
        image = plugin(io.BytesIO(data))
    except Damaged as error:
        raise NotAnImage(f"damaged ({error})") from None
    except Exception as error:  # as above
        raise NotAnImage(_reason(error)) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise NotAnImage(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if width < 1 or height < 1:
        raise NotAnImage(f"{width} x {height} has no pixels")
    return image


def load_plugins() -> None:
    """Load what decodes the FORMATS, before limits make that harder."""
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )


def _plugin(data: bytes) -> Callable[[io.BytesIO], ImageFile]:
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    if data.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if data.startswith((b"GIF87a", b"GIF89a")):
        return GifImagePlugin.GifImageFile
    if data.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    other = looks_like(data)
    raise NotAnImage(f"not an image ({FORMATS})" + (f" but {other}" if other else ""))


def _reason(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"damaged ({text or type(error).__name__})"


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """Return `image` as 8-bit `mode` without transparency."""
    from PIL import Image

    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).clip(0, 255).astype(np.uint8)).convert(mode)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert(mode)
    return image.convert(mode)


def _turn(image: Image.Image, stored: Image.Image) -> Image.Image:
    """Return `image` as the EXIF data of `stored` says that it is to be seen."""
    from PIL.Image import Transpose

    if stored.info.keys().isdisjoint(("exif", "Raw profile type exif")):
        return image  # getexif() would cost as much as decoding a small image
    try:
        orientation = stored.getexif().get(ORIENTATION, 1)
    except Exception:  # EXIF data that cannot be read turns nothing
        return image
    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def fit(image: Image.Image, size: int) -> Image.Image:
    """Return the largest centred square of `image` as `size` x `size`, see `decode`."""
    from PIL.Image import Resampling

    width, height = image.size
    if width == height == size:
        return image
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    # Cut before resizing: a strip of 1 x 60,000 must not become one of 64 x 3,840,000.
    square = image if width == height else image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Resampling.BICUBIC)
