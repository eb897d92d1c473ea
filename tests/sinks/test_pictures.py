"""Grids of images, down to the pixel."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.models.mlp import MLPSpec
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.sinks.board import Look
from pellucid.sinks.pictures import GAP, first_filters, grid, png_url


def tile(sheet: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    top, left = GAP + row * (size + GAP), GAP + column * (size + GAP)
    return sheet[top : top + size, left : left + size]


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_stands_in_its_place(channels: int) -> None:
    images = np.random.default_rng(0).random((19, channels, 28, 28), dtype=np.float32)
    sheet = grid(images)
    assert sheet.shape == (3 * 62 + 6, 8 * 62 + 6, 3)
    for number in range(24):
        shown = tile(sheet, *divmod(number, 8), 56)
        if number >= 19:
            assert (shown == 255).all()
            continue
        colours = np.broadcast_to(images[number], (3, 28, 28))
        expected = np.round(colours * 255).astype(np.uint8).transpose(1, 2, 0)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):  # enlarged twofold, not smoothed
            np.testing.assert_array_equal(shown[dy::2, dx::2], expected)


def test_lines_between_images_are_white_and_numbers_are_clipped() -> None:
    sheet = grid(np.full((2, 1, 60, 60), -3, dtype=np.float32))
    assert sheet.shape == (72, 138, 3)
    assert (tile(sheet, 0, 1, 60) == 0).all()
    assert (sheet == 255).sum() == sheet.size - 2 * 60 * 60 * 3
    assert (tile(grid(np.full((1, 1, 60, 60), 7, dtype=np.float32)), 0, 0, 60) == 255).all()


def test_other_numbers_of_channels_and_many_images() -> None:
    images = np.zeros((100, 2, 56, 56), dtype=np.float32)
    images[:, 1] = 1
    sheet = grid(images)
    assert sheet.shape == (8 * 62 + 6, 8 * 62 + 6, 3)  # the first 64
    assert (tile(sheet, 3, 3, 56) == 128).all()


def test_filters_of_a_convolution() -> None:
    model = MnistCNNSpec().build((1, 28, 28), 10)
    weights = Look.at(0, model.state_dict(), None).weights
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    found = first_filters(weights, None)
    assert found is not None
    expected = first.weight.detach() / first.weight.abs().max() / 2 + 0.5
    torch.testing.assert_close(torch.from_numpy(found), expected)


def test_filters_of_a_linear_layer_over_the_pixels() -> None:
    model = MLPSpec().build((1, 28, 28), 10)
    weights = Look.at(0, model.state_dict(), None).weights
    found = first_filters(weights, (1, 28, 28))
    assert found is not None
    assert found.shape[1:] == (1, 28, 28)
    assert first_filters(weights, None) is None
    assert first_filters(weights, (1, 7, 7)) is None


def test_filters_that_are_no_numbers_are_shown_as_far_as_possible() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 2.0], dtype=np.float32).reshape(1, 1, 2, 2)
    found = first_filters({"conv": values}, None)
    assert found is not None
    assert found.flatten().tolist() == [0.5, 1, 0, 1]
    zeros = first_filters({"conv": np.zeros((1, 1, 2, 2), np.float32)}, None)
    assert zeros is not None
    assert (zeros == 0.5).all()


def test_a_picture_survives_its_address() -> None:
    sheet = grid(np.random.default_rng(1).random((3, 3, 8, 8), dtype=np.float32))
    kind, content = png_url(sheet).split(",")
    assert kind == "data:image/png;base64"
    again = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    np.testing.assert_array_equal(again, sheet)
