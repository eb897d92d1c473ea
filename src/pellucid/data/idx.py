"""The IDX format of MNIST and its kin: a magic number, the dimensions, the bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadData, DataNotFound

UNSIGNED_BYTE = 0x08
MAX_BYTES = 1 << 30
"""The most that is read from one file. A gzipped file of this format can announce any size."""


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Return the array in an IDX file, plain or gzipped.

    Format: two zero bytes, one for the element type (only 0x08, unsigned byte, is read), one for
    the number of dimensions, then each dimension as a big-endian uint32, then the elements. From
    http://yann.lecun.com/exdb/mnist.

    Args:
        path: the file. It is gzip that decides, not the name: the first two bytes are looked at.
    Returns:
        uint8, of the shape that the header gives.
    Raises:
        DataNotFound: if there is no such file.
        BadData: if the file is truncated, damaged, too long, or no IDX file of unsigned bytes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "two-by-three")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]))
    ...     read_idx(path).tolist()
    [[1, 2, 3], [4, 5, 6]]
    """
    try:
        with Path(path).open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _read(file, path)
            with gzip.open(file) as unpacked:
                return _read(cast(BinaryIO, unpacked), path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataNotFound(f"There is no file {path}.") from None
    except EOFError:
        raise BadData(f"{path} is truncated: its gzip data ends early.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadData(f"{path} is damaged: its gzip data does not unpack ({error}).") from None
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror or error}.") from None


def _read(file: BinaryIO, path: str | Path) -> NDArray[np.uint8]:
    magic = file.read(4)
    if len(magic) < 4:
        raise BadData(f"{path} is truncated: {len(magic)} bytes, without a full header.")
    if magic[:2] != b"\0\0":
        raise BadData(
            f"{path} is no IDX file: it starts with {magic.hex(' ')}, which should be 00 00 08."
        )
    if magic[2] != UNSIGNED_BYTE:
        raise BadData(
            f"{path} holds elements of type 0x{magic[2]:02x}; only unsigned bytes (0x08) are read."
        )
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise BadData(f"{path} is truncated: its header announces {magic[3]} dimensions.")
    shape = struct.unpack(f">{magic[3]}I", header)
    size = math.prod(shape)
    if not shape or size > MAX_BYTES:
        raise BadData(f"{path} announces the shape {shape}; at most {MAX_BYTES:,} bytes are read.")
    # One byte more than announced, so that what is too long shows, and a gzip bomb stays small.
    content = file.read(size + 1)
    if len(content) < size:
        raise BadData(
            f"{path} is truncated: {len(content):,} of the {size:,} bytes of shape {shape}."
        )
    if len(content) > size:
        raise BadData(
            f"{path} is longer than the {size:,} bytes of the shape {shape} it announces."
        )
    array = np.empty(shape, np.uint8)  # writable, as torch.from_numpy wants it
    array.reshape(-1)[:] = np.frombuffer(content, np.uint8, count=size)
    return array
