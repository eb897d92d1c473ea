"""What a data check keeps of one image: digests, a small picture, a few numbers.

Measured where the image was decoded, so that no large picture travels between processes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from pellucid.data.decode import Picture

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32
"""Pixels a side of the small picture that perceptual hashes are made from."""
PREVIEW = 96
"""Pictures that are to be shown have at most this many pixels a side."""
LEVELS = np.arange(256) / 255

Count = Annotated[int, Meta(ge=1, le=1 << 30)]
Three = tuple[float, float, float]


class Preview(msgspec.Struct, frozen=True, array_like=True):
    """A picture to be shown.

    Args:
        width: pixels, at most PREVIEW.
        height: likewise.
        content: uint8 (height, width, 3), by rows.
    """

    width: Annotated[int, Meta(ge=1, le=PREVIEW)]
    height: Annotated[int, Meta(ge=1, le=PREVIEW)]
    content: bytes

    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture, uint8 (height, width, 3)."""
        return np.frombuffer(self.content, np.uint8).reshape(self.height, self.width, 3).copy()


class Measured(msgspec.Struct, frozen=True, array_like=True):
    """What was measured of one image.

    Args:
        small: the whole image squeezed into a square, uint8 (SIDE, SIDE, 3), by rows.
        digest: of the pixels; those of a grey image are the same stored as grey or as RGB.
        size: width and height, upright.
        kind: as in `Picture`.
        odd: likewise.
        flat: whether it is of one colour.
        grey: whether it is grey, by its pixels.
        mean: of each channel, in [0, 1].
        square: mean of the squares of each channel.
        preview: a picture to be shown, where one was asked for.
    """

    small: bytes
    digest: Annotated[bytes, Meta(min_length=16, max_length=16)]
    size: tuple[Count, Count]
    kind: Annotated[str, Meta(max_length=60)]
    odd: tuple[str, ...]
    flat: bool
    grey: bool
    mean: Three
    square: Three
    preview: Preview | None


def measured(picture: Picture, wanted: bool) -> Measured:
    """Return what there is to keep of `picture`, with a preview if one is `wanted`."""
    image = picture.image
    small = _small(image)
    pixels = np.asarray(image)
    looks_grey = bool((small == small[..., :1]).all())
    if pixels.ndim == 3 and looks_grey and bool((pixels == pixels[..., :1]).all()):
        pixels = pixels[..., 0]  # a grey picture is the same one, stored as grey or as RGB
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    counts = np.array(image.histogram(), np.float64).reshape(-1, 256)
    share = counts / counts.sum(1, keepdims=True)
    return Measured(
        small.tobytes(),
        digest.digest(),
        picture.size,
        picture.kind,
        picture.odd,
        bool(((counts > 0).sum(1) == 1).all()),
        pixels.ndim == 2,
        _three(share @ LEVELS),
        _three(share @ LEVELS**2),
        _preview(image) if wanted else None,
    )


def _small(image: Image.Image) -> NDArray[np.uint8]:
    """Return the whole image as uint8 (SIDE, SIDE, 3), squeezed into a square."""
    from PIL.Image import Resampling

    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Resampling.BILINEAR, reducing_gap=3.0)
    pixels = np.asarray(image)
    return np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels


def _three(values: NDArray[np.float64]) -> Three:
    """Return three channels; the one of a grey image counts for all."""
    first, *others = values.tolist()
    second, third = others or (first, first)
    return first, second, third


def _preview(image: Image.Image) -> Preview:
    if max(image.size) > PREVIEW:
        image = image.copy()
        image.thumbnail((PREVIEW, PREVIEW))
    return Preview(*image.size, image.convert("RGB").tobytes())
