"""Pooling: the largest or the mean of each window; less to compute, and a wider view."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.data.digits import Digits
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@lab
def run(
    *,
    digit: Annotated[int, ranged("which digit is pooled", 0, 9)] = 3,
    kernel: Annotated[int, ranged("height and width of a window, and the stride", 2, 7)] = 2,
    seed: Annotated[int, ranged("of the numbers in the example", 0, 10**6)] = 1,
) -> LabResult:
    """Pool with loops and with PyTorch, and follow the gradient back."""
    example = torch.randint(0, 10, (4, 4), generator=generator(seed, "lab")).double()
    largest, mean = pool(example, 2, "max"), pool(example, 2, "mean")
    out = 28 // kernel
    text = f"""
        Pooling cuts a map into windows and keeps one number of each: the largest, or the mean. It
        has no weights. In the example the first window is {_words(example[:2, :2])}: max {
        float(largest[0, 0]):g}, mean {float(mean[0, 0]):g}.

        Windows of {kernel}x{kernel} turn 28x28 into {out}x{out}: {28 * 28} numbers become
        {out * out}, and each layer that follows has that much less to compute. And it sees more:
        one 3x3 after pooling by 2 covers 8x8 pixels when a 3x3 stood before it; without pooling two
        of them cover 5x5.

        Backwards, the maximum hands the gradient to the one pixel that won, the mean to all in
        equal parts. At the border they differ too: max pooling pads with minus infinity, so
        padding never wins; average pooling pads with zeros and counts them, unless
        count_include_pad is off.

        A shift by one pixel changes the pooled map less than the map itself, but it does
        change it: pooling makes a network a little tolerant, not invariant. Only a shift by the
        stride is a clean shift of the pooled map.
    """
    image = _image(digit)
    rows = [
        (k, 28 // k, 28 * 28 / (28 // k) ** 2, view([(3, 1), (k, k), (3, 1)])) for k in (1, 2, 3, 4)
    ]
    head = ("window", "side of the map", "times less", "seen by 3x3, pool, 3x3")
    claims = [
        *_as_torch(image, kernel), *_backwards(), *_borders(), *_views(), *_shifts(image),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, image, kernel, example),
        [Table(head, rows, "What pooling saves, on 28x28")],
        {"max": largest.tolist(), "mean": mean.tolist()},
    )  # fmt: skip


def pool(image: Tensor, k: int, kind: str) -> Tensor:
    """Return a map (H, W) pooled by windows of k x k that do not overlap."""
    high, wide = image.shape[0] // k, image.shape[1] // k
    out = torch.zeros(high, wide, dtype=image.dtype)
    for i in range(high):
        for j in range(wide):
            window = image[i * k : (i + 1) * k, j * k : (j + 1) * k]
            out[i, j] = window.max() if kind == "max" else window.sum() / (k * k)
    return out


def view(layers: list[tuple[int, int]]) -> int:
    """Return the side of what a unit sees through layers of (kernel, stride).

    >>> view([(3, 1), (2, 2), (3, 1)])
    8
    """
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step
        step *= stride
    return side


def _words(window: Tensor) -> str:
    return ", ".join(f"{value:g}" for value in window.flatten().tolist())


def _image(digit: int) -> Tensor:
    part = Digits().load().test
    assert part is not None
    return part.images[int((part.labels == digit).nonzero()[0]), 0].double() / 255


def _as_torch(image: Tensor, kernel: int) -> list[Claim]:
    batch = image[None, None]
    layers = nn.ModuleList([nn.MaxPool2d(2), nn.AvgPool2d(2)])
    ours = torch.stack([pool(image, kernel, "max")]), torch.stack([pool(image, kernel, "mean")])
    return [
        agrees("The loop computes MaxPool2d", ours[0], nn.MaxPool2d(kernel)(batch)[0], 1e-12),
        agrees("and AvgPool2d", ours[1], nn.AvgPool2d(kernel)(batch)[0], 1e-12),
        equals("They have so many weights", len(list(layers.parameters())), 0, 0),
        is_true("The maximum is nowhere below the mean", (ours[0] >= ours[1] - 1e-12).all()),
    ]


def _backwards() -> list[Claim]:
    window = torch.tensor([[[[1.0, 7.0], [3.0, 2.0]]]], dtype=torch.float64, requires_grad=True)
    (by_max,) = torch.autograd.grad(F.max_pool2d(window, 2).sum(), window)
    (by_mean,) = torch.autograd.grad(F.avg_pool2d(window, 2).sum(), window)
    return [
        is_true("The maximum sends the gradient to the one that won",
                by_max.flatten().tolist() == [0, 1, 0, 0]),
        is_true("the mean a quarter to each of four",
                by_mean.flatten().tolist() == [0.25] * 4),
    ]  # fmt: skip


def _borders() -> list[Claim]:
    low = torch.full((1, 1, 3, 3), -5.0)
    ones = torch.ones(1, 1, 3, 3)
    return [
        equals("Max pooling of -5 with padding: the corner", F.max_pool2d(low, 2, 2, 1)[0, 0, 0, 0],
               -5, 0, "T3.5"),
        equals("Average pooling of ones counts padded zeros: the corner",
               F.avg_pool2d(ones, 2, 2, 1)[0, 0, 0, 0], 0.25, 0, "T3.5"),
        equals("and does not with count_include_pad=False",
               F.avg_pool2d(ones, 2, 2, 1, count_include_pad=False)[0, 0, 0, 0], 1, 0, "T3.5"),
    ]  # fmt: skip


def _views() -> list[Claim]:
    """Return what a unit sees, by its gradient."""
    found = []
    for layers in ([(3, 1), (2, 2), (3, 1)], [(3, 1), (3, 1)]):
        image = torch.ones(1, 1, 24, 24, requires_grad=True)
        out = image
        for k, s in layers:
            out = F.avg_pool2d(out, k, s)  # a kernel of equal weights
        (slope,) = torch.autograd.grad(out[0, 0, 2, 2], image)
        found.append((int((slope[0, 0] != 0).any(0).sum()), view(layers)))
    (pooled, ours), (plain, ours_plain) = found
    return [
        is_true("The formula gives the area of the gradient",
                pooled == ours and plain == ours_plain),
        equals("3x3, pooling by 2, 3x3 see", pooled, 8, 0),
        equals("two 3x3 without pooling see", plain, 5, 0),
    ]  # fmt: skip


def _shifts(image: Tensor) -> list[Claim]:
    def pooled(by: int) -> Tensor:
        return F.max_pool2d(image.roll(by, 1)[None, None], 2)[0, 0]

    change = float((pooled(1) - pooled(0)).norm() / pooled(0).norm())
    unpooled = float((image.roll(1, 1) - image).norm() / image.norm())
    return [
        at_most("A shift by 1 changes the pooled map less than the image: ratio",
                change / unpooled, 0.95, "T3.4"),
        at_least("but it does change it: relative change", change, 0.1, "T3.4"),
        agrees("A shift by the stride, 2, is a clean shift by 1", pooled(2), pooled(0).roll(1, 1),
               0, "T3.4"),
    ]  # fmt: skip


def _draw(image: Tensor, kernel: int, example: Tensor) -> Figure:
    from pellucid.labs.drawing import RED, sheet

    figure, axes = sheet("Pooling: numbers (above) and a digit (below)", 3, 2, size=(10, 6.6))
    for axis, (title, values) in zip(axes[:3], (
        ("four windows of 2x2", example), ("the largest of each", pool(example, 2, "max")),
        ("the mean of each", pool(example, 2, "mean")),
    ), strict=True):  # fmt: skip
        axis.imshow(values.numpy(), cmap="Blues", vmin=0, vmax=14)
        for i, row in enumerate(values.tolist()):
            for j, value in enumerate(row):
                axis.text(j, i, f"{value:g}", ha="center", va="center")
        axis.set_title(title)
    axes[0].axhline(1.5, color=RED, linewidth=2)
    axes[0].axvline(1.5, color=RED, linewidth=2)
    for axis, (title, values) in zip(axes[3:], (
        ("the image", image), (f"max, {kernel}x{kernel}", pool(image, kernel, "max")),
        (f"mean, {kernel}x{kernel}", pool(image, kernel, "mean")),
    ), strict=True):  # fmt: skip
        axis.imshow(values.numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(f"{title}: {values.shape[0]}x{values.shape[1]}")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure
