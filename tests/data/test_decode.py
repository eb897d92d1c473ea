"""The decoder: golden pixels for each mode, and what it refuses."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pellucid.data import decode as module
from pellucid.data.decode import NotAnImage, decode, probe


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def rgb(*pixels) -> Image.Image:
    """One row of pixels."""
    return Image.fromarray(np.array([pixels], np.uint8))


def row(data: bytes, channels: int = 3) -> list:
    """The first row, one tuple per pixel."""
    return [tuple(pixel) for pixel in decode(data, channels, None)[:, 0].T.tolist()]


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "WEBP"])
def test_lossless_formats_keep_their_pixels(format):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(rgb(RED, GREEN, BLUE), format, **options)
    assert row(data) == [RED, GREEN, BLUE]
    assert probe(data) == (3, 1, False, False)


def test_jpeg_is_as_pillow_gives_it(picture):
    data = encoded(picture(3, 20, 14), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(data, 3, None), expected)


def test_grey_and_one_bit():
    grey = encoded(Image.fromarray(np.array([[0, 100, 255]], np.uint8)))
    assert row(grey, 1) == [(0,), (100,), (255,)]
    assert row(grey, 3) == [(0,) * 3, (100,) * 3, (255,) * 3]
    bits = encoded(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"))
    assert row(bits, 1) == [(0,), (255,)]
    assert probe(grey).grey
    assert probe(bits).grey


def test_16_bit_grey_is_scaled_not_clipped():
    data = encoded(Image.fromarray(np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)))
    assert row(data, 1) == [(0,), (0,), (1,), (1,), (128,), (255,)]
    assert row(data, 3)[-2] == (128, 128, 128)
    assert probe(data).grey


def test_colour_becomes_luma_for_one_channel():
    assert row(encoded(rgb(RED, GREEN, BLUE, WHITE)), 1) == [(76,), (150,), (29,), (255,)]


def test_transparent_pixels_are_laid_on_white():
    image = Image.fromarray(np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], np.uint8))
    for format in ("PNG", "WEBP"):
        options = {"lossless": True, "exact": True} if format == "WEBP" else {}
        assert row(encoded(image, format, **options)) == [RED, WHITE, (127, 127, 127)]
    grey = Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), "LA")
    assert row(encoded(grey), 1) == [(9,), (255,)]
    assert probe(encoded(grey)).grey


def test_a_transparent_colour_is_laid_on_white():
    assert row(encoded(rgb(RED, GREEN), transparency=GREEN)) == [RED, WHITE]
    grey = Image.fromarray(np.array([[7, 8]], np.uint8))
    assert row(encoded(grey, transparency=8), 1) == [(7,), (255,)]


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palettes(format):
    image = rgb(RED, GREEN, BLUE).quantize(3)
    assert row(encoded(image, format)) == [RED, GREEN, BLUE]
    green = image.tobytes()[1]
    assert row(encoded(image, format, transparency=green)) == [RED, WHITE, BLUE]


def test_cmyk():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    pixels = decode(encoded(image, "JPEG", quality=100), 3, None)
    assert np.abs(pixels[:, 4, 4].astype(int) - RED).max() <= 2
    assert not probe(encoded(image, "JPEG")).grey


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_exif_turns_the_image(format):
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 8, 8))
    options = {"lossless": True} if format == "WEBP" else {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(image, format, exif=exif.tobytes(), **options)
        from PIL import ImageOps

        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        pixels = decode(data, 3, None)
        np.testing.assert_array_equal(pixels, np.asarray(expected).transpose(2, 0, 1))
        assert pixels.shape == ((3, 16, 32) if orientation < 5 else (3, 32, 16))


def test_damaged_exif_turns_nothing():
    data = encoded(rgb(RED, GREEN), exif=b"Exif\0\0nonsense that is no TIFF")
    assert row(data) == [RED, GREEN]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_animation_gives_its_first_frame(format):
    options = {"lossless": True} if format == "WEBP" else {}
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert probe(data).animated
    assert row(data) == [RED] * 4


def test_size_cuts_the_centred_square_and_resizes_it(picture):
    image = picture(1, 50, 30)
    expected = image.crop((10, 0, 40, 30)).resize((8, 8), Image.Resampling.BICUBIC)
    pixels = decode(encoded(image), 3, 8)
    np.testing.assert_array_equal(pixels, np.asarray(expected).transpose(2, 0, 1))
    assert decode(encoded(picture(1, 3, 5)), 3, 8).shape == (3, 8, 8)  # also larger


def test_an_image_of_the_right_size_keeps_its_pixels(picture):
    data = encoded(picture(2, 16, 16))
    np.testing.assert_array_equal(decode(data, 3, 16), decode(data, 3, None))


def test_a_long_strip_stays_small():
    assert decode(encoded(Image.new("L", (60_000, 1), 9)), 1, 64).max() == 9


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_truncated_is_refused(format, picture):
    data = encoded(picture(4, 64, 64), format)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(NotAnImage, match="damaged"):
            decode(data[: int(len(data) * share)], 3, 16)


def test_what_is_no_image_is_refused():
    with pytest.raises(NotAnImage, match="empty"):
        decode(b"", 3, None)
    for data in (b"hello", b"<svg/>", b"\x89PNG", bytes(100)):
        with pytest.raises(NotAnImage, match="not an image"):
            decode(data, 3, None)
        with pytest.raises(NotAnImage, match="not an image"):
            probe(data)


@pytest.mark.parametrize("format", ["TIFF", "PPM", "ICO", "TGA", "PCX", "EPS", "PDF", "JPEG2000"])
def test_only_the_named_formats_are_opened(format, picture):
    with pytest.raises(NotAnImage, match="not an image"):
        decode(encoded(picture(), format), 3, None)


@pytest.mark.parametrize("side", [8_001, 12_000, 60_000])
def test_pixel_bombs_are_errors_without_a_warning(side):
    """Around Pillow's own limits of 89 and 179 million pixels, and without a byte of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9)))
    for read in (probe, lambda data: decode(data, 3, 32)):
        with pytest.raises(NotAnImage, match="more than 64,000,000 pixels"):
            read(data)


def test_mutated_files_never_raise_anything_else(picture):
    random = np.random.default_rng(0)
    for format in ("PNG", "JPEG", "WEBP", "BMP", "GIF"):
        data = encoded(picture(5, 24, 24), format)
        for _ in range(150):
            broken = bytearray(data)
            for _ in range(int(random.integers(1, 8))):
                broken[int(random.integers(len(broken)))] = int(random.integers(256))
            try:
                probe(bytes(broken))
                assert decode(bytes(broken), 3, 8).shape == (3, 8, 8)
            except NotAnImage:
                pass


def test_the_allow_list_names_what_it_opens():
    assert module.FORMATS == "PNG, JPEG, WebP, BMP, GIF"
