"""IDX files."""

from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest

from pellucid.data.idx import read_idx
from pellucid.errors import BadData, DataNotFound


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (0,)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_reads_what_was_written(tmp_path, shape, pack):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "any-name"
    path.write_bytes(pack(idx(array)))
    read = read_idx(path)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


GOOD = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "truncated: 0 bytes"),
        (GOOD[:3], "truncated: 3 bytes"),
        (GOOD[:9], "truncated: its header announces 2 dimensions"),
        (GOOD[:-1], r"truncated: 11 of the 12 bytes of shape \(3, 4\)"),
        (GOOD + b"x", "longer than the 12 bytes"),
        (b"\x89PNG" + GOOD, "no IDX file: it starts with 89 50 4e 47"),
        (b"\0\0\x0d" + GOOD[3:], "type 0x0d; only unsigned bytes"),
        (b"\0\0\x08\0", "announces the shape"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "announces the shape"),
        (gzip.compress(GOOD, mtime=0)[:-12], "truncated: its gzip data"),
        (gzip.compress(GOOD, mtime=0)[:10] + b"\xff" * 30, "damaged: its gzip data"),
        (gzip.compress(GOOD, mtime=0)[:-8] + b"\0" * 8, "damaged: its gzip data"),
        (gzip.compress(GOOD + bytes(10_000_000), mtime=0), "longer than"),
    ],
)
def test_says_which_file_is_wrong_and_how(tmp_path, content, what):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(BadData, match=what) as error:
        read_idx(path)
    assert str(path) in str(error.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataNotFound, match="There is no file"):
        read_idx(tmp_path / "none")
    with pytest.raises(BadData, match="cannot be read"):
        read_idx(tmp_path)


def test_reads_the_real_mnist(real_data):
    images = read_idx(real_data / "mnist" / "t10k-images-idx3-ubyte.gz")
    labels = read_idx(real_data / "mnist" / "t10k-labels-idx1-ubyte.gz")
    assert images.shape == (10_000, 28, 28)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    # The official MD5 of the unpacked file, header included.
    content = gzip.decompress((real_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert hashlib.md5(content).hexdigest() == "2646ac647ad5339dbf082846283269ea"
    assert images.tobytes() == content[16:]
