"""The labs on windows that slide: other libraries agree, and wrong computations fail."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

from pellucid.errors import UserError
from pellucid.labs import arithmetic, convolution, kernels
from pellucid.labs.arithmetic import Window

right_length, right_slide = arithmetic.length, convolution.slide


def always_floor(size: int, window: Window, ceil: bool = False) -> int:
    """The size of a map without ceil mode."""
    return right_length(size, window)


def no_drop(size: int, window: Window, ceil: bool = False) -> int:
    """The size of a map, with a last window in the padding kept."""
    k, s, p, d = window
    room = size + 2 * p - d * (k - 1) - 1
    return (-(-room // s) if ceil else room // s) + 1


def no_dilation(size: int, window: Window, ceil: bool = False) -> int:
    """The size of a map, with taps that touch each other."""
    return right_length(size, window._replace(d=1), ceil)


def flipped(image: Any, weight: Any, *rest: Any) -> Any:
    """A layer that flips its kernel."""
    return right_slide(image, weight.flip(2, 3), *rest)


def bias_for_each_channel(image: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    """A layer that adds the bias once for each channel."""
    return right_slide(image, weight, image.shape[1] * bias, *rest)


def with_kernel(name: str, weights: Any) -> Any:
    """The kernels with one of them changed."""
    return {**kernels.KERNELS, name: weights}


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (arithmetic, "length", always_floor),
        (arithmetic, "length", no_drop),
        (arithmetic, "length", no_dilation),
        (arithmetic, "settings", lambda size, target: iter([Window(3, 2), Window(2, 2)])),
        (convolution, "slide", flipped),
        (convolution, "slide", bias_for_each_channel),
        (convolution, "parameters", lambda i, o, k, g=1: i * o * k * k + o),
        (convolution, "convolve", lambda x, k: F.conv1d(x[None, None], k[None, None],
                                                        padding=len(k) - 1)[0, 0]),
        (kernels, "KERNELS", with_kernel("blur", torch.full((3, 3), 1 / 8).double())),
        (kernels, "KERNELS", with_kernel("sharpen", kernels.KERNELS["sharpen"] - 0.01)),
        (kernels, "KERNELS", with_kernel("sobel-x", kernels.KERNELS["prewitt-x"])),
        (kernels, "KERNELS", with_kernel("sobel-y", kernels.KERNELS["sobel-x"])),
        (kernels, "KERNELS", with_kernel("sobel-x", -kernels.KERNELS["sobel-x"])),
    ],
)  # fmt: skip
def test_a_wrong_computation_fails_a_claim(
    module: Any, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    assert module.run().failed


def test_a_window_that_does_not_fit() -> None:
    with pytest.raises(UserError, match="window of 21 pixels does not fit into 10"):
        arithmetic.run(size=10, kernel=11, dilation=2)


def test_every_setting_for_a_size_is_found() -> None:
    found = arithmetic.run(size=9, target=4).values["settings"]
    by_hand = [
        [k, s, p, d]
        for k in range(1, 8)
        for s in range(1, 5)
        for d in (1, 2)
        for p in range(d * (k - 1) // 2 + 1)
        if (k > 1 or d == 1)
        and 9 + 2 * p > d * (k - 1)
        and F.conv1d(torch.zeros(1, 1, 9), torch.zeros(1, 1, k), None, s, p, d).shape[2] == 4
    ]
    assert found == by_hand


def test_the_slopes_are_those_of_scipy() -> None:
    image = kernels._image(7, 3)
    for kind, theirs in (("sobel", scipy.ndimage.sobel), ("prewitt", scipy.ndimage.prewitt)):
        for name, axis in (("x", 1), ("y", 0)):
            expected = torch.from_numpy(theirs(image.numpy(), axis=axis, mode="nearest"))
            torch.testing.assert_close(
                kernels.apply(image, kernels.KERNELS[f"{kind}-{name}"]), expected
            )
