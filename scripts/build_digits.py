"""Build the embedded set `digits` from the official MNIST files.

    python scripts/build_digits.py FOLDER

FOLDER holds the four IDX files, plain or gzipped. Of each class the first 500 training images
and the first 100 test images of a fixed shuffle are taken; the files are written gzipped, without a
time stamp, so that the same input gives the same bytes.
"""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np

from pellucid.data.idx import read_idx

TARGET = Path(__file__).resolve().parent.parent / "src/pellucid/data/embedded"


def find(folder: Path, stem: str) -> Path:
    for name in (f"{stem}-ubyte.gz", f"{stem}-ubyte"):
        if (folder / name).is_file():
            return folder / name
    sys.exit(f"{folder} holds no {stem}-ubyte[.gz]")


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), 9, mtime=0))


def main(folder: Path) -> None:
    for part, per_class in (("train", 500), ("t10k", 100)):
        images = read_idx(find(folder, f"{part}-images-idx3"))
        labels = read_idx(find(folder, f"{part}-labels-idx1"))
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(labels))
        taken = np.sort(
            np.concatenate([order[labels[order] == digit][:per_class] for digit in range(10)])
        )
        write_idx(TARGET / f"{part}-images-idx3-ubyte.gz", images[taken])
        write_idx(TARGET / f"{part}-labels-idx1-ubyte.gz", labels[taken])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
