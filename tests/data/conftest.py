"""Fixtures of the tests of the data room: real files in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def patched() -> Iterator[pytest.MonkeyPatch]:
    """As `monkeypatch`, but undone before the check of all tests looks for what leaked."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, patched: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test; the network is off."""
    folder = tmp_path / "cache"
    patched.setenv("PELLUCID_CACHE", str(folder))
    patched.setenv("PELLUCID_OFFLINE", "1")
    patched.setenv("no_proxy", "*")
    return folder


@pytest.fixture
def no_data(patched: pytest.MonkeyPatch) -> None:
    """No PELLUCID_DATA."""
    patched.delenv("PELLUCID_DATA", raising=False)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets."""
    if not os.environ.get("PELLUCID_DATA"):
        pytest.skip("PELLUCID_DATA is not set, so there are no real data sets to read")
    return Path(os.environ["PELLUCID_DATA"])


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """Make an image of random pixels: `picture(seed, width, height, mode)`."""

    def make(seed: int = 0, width: int = 12, height: int = 12, mode: str = "RGB") -> Image.Image:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels).convert(mode)

    return make


@pytest.fixture
def plant(picture: Callable[..., Image.Image]) -> Callable[..., Path]:
    """Write images below a folder: `plant(root, {"train/cat": 3, ...}, mode="L")`."""

    def write(root: Path, counts: dict[str, int], mode: str = "RGB", size: int = 12) -> Path:
        seed = 0
        for name, count in counts.items():
            folder = root / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                seed += 1
                picture(seed, size, size, mode).save(folder / f"{number:02}.png")
        return root

    return write
