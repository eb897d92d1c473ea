"""Real images of three shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from torch import Tensor

from pellucid.data.digits import Digits


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """Forty real digits, uint8 (40, 1, 28, 28)."""
    return Digits().load().train.pixels(torch.arange(0, 5000, 125))


def _tiles(side: int) -> Tensor:
    """Cut two photographs into tiles, uint8 (N, 3, side, side)."""
    tiles = []
    for photo in load_sample_images().images:
        image = torch.from_numpy(photo.copy()).permute(2, 0, 1).unsqueeze(0).float()
        small = F.interpolate(image, (side * 5, side * 6), mode="area").round()
        tiles.append(
            small.view(3, 5, side, 6, side).permute(1, 3, 0, 2, 4).reshape(-1, 3, side, side)
        )
    return torch.cat(tiles).to(torch.uint8)


@pytest.fixture(scope="session")
def photos() -> Tensor:
    """Sixty pieces of two photographs, uint8 (60, 3, 32, 32)."""
    return _tiles(32)


@pytest.fixture(scope="session")
def large() -> Tensor:
    """As many of 64 by 64 pixels."""
    return _tiles(64)


@pytest.fixture(params=["digits", "photos", "large"])
def pictures(request: pytest.FixtureRequest) -> Tensor:
    """Images of each of the three shapes."""
    images: Tensor = request.getfixturevalue(request.param)
    return images
