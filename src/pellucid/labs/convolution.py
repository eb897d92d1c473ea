"""Convolution: from a signal that is flipped and slid to the layer `Conv2d`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@lab
def run(
    *,
    channels: Annotated[int, ranged("of the image", 1, 8)] = 3,
    kernels: Annotated[int, ranged("of the layer: so many maps come out", 1, 32)] = 16,
    kernel: Annotated[int, ranged("height and width of a kernel", 1, 5)] = 3,
    stride: Annotated[int, ranged("pixels from one window to the next", 1, 4)] = 1,
    padding: Annotated[int, ranged("rows of zeros around the image", 0, 4)] = 0,
    size: Annotated[int, ranged("height and width of the image", 5, 16)] = 6,
    seed: Annotated[int, ranged("of image and weights", 0, 10**6)] = 0,
) -> LabResult:
    """Compute a convolution with loops, and as PyTorch does."""
    draws = generator(seed, "lab")
    image = torch.randint(0, 4, (1, channels, size, size), generator=draws).double()
    weight = torch.randint(-1, 2, (kernels, channels, kernel, kernel), generator=draws).double()
    bias = torch.randint(-2, 3, (kernels,), generator=draws).double()
    maps = slide(image, weight, bias, stride, padding)
    first = F.pad(image, [padding] * 4)[0, :, :kernel, :kernel]
    parts = [float((first[c] * weight[0, c]).sum()) for c in range(channels)]
    total = " + ".join([f"({part:g})" for part in [*parts, float(bias[0])]])
    text = f"""
        In signal processing a convolution flips one of two signals, slides it along the other, and
        adds up the products where they overlap: (x * k)[n] = sum over m of x[m] k[n - m].

        A convolutional layer does the same in two directions, without the flip (strictly, it is
        a cross-correlation; learned weights do not mind). At each place it multiplies
        {kernel}x{kernel} pixels of every channel with the weights of a kernel, and adds up all
        products and one bias. Place (0, 0) of map 0, with a sum for each of {channels} channels
        and the bias last:

            {total} = {float(maps[0, 0, 0, 0]):g}

        One kernel has weights for all channels and makes one map: the channels are added, not
        kept. {kernels} kernels make {kernels} maps. So the weights have the shape (out, in, height,
        width) = {tuple(weight.shape)}, and with one bias for each map there are {weight.numel()} +
        {kernels} = {weight.numel() + kernels} numbers to learn.

        Three loops, over maps, rows and columns, are all that `F.conv2d` computes; `nn.Conv2d` is
        that function with its weights kept in it.
    """
    groups = [
        (c_in, c_out, k, g, nn.Conv2d(c_in, c_out, k, groups=g).weight.numel(),
         parameters(c_in, c_out, k, g))
        for c_in, c_out, k, g in ((1, 32, 3, 1), (3, 16, 3, 1), (32, 64, 3, 1), (64, 64, 3, 1),
                                  (64, 64, 3, 64))
    ]  # fmt: skip
    head = ("in", "out", "kernel", "groups", "weights", "with bias")
    claims = [
        *_as_torch(image, weight, bias, stride, padding, maps),
        *_sums(image, weight, bias, stride, padding, maps),
        *_signals(seed),
        *_counts(groups),
    ]
    return LabResult(
        text, claims, partial(_draw, image, weight, bias, stride, padding, maps),
        [Table(head, groups, "Numbers to learn")], {"map 0": maps[0, 0].tolist(), "parts": parts},
    )  # fmt: skip


def slide(image: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """Return the maps (1, O, H', W') of an image (1, C, H, W), with one loop for each axis."""
    padded = F.pad(image, [padding] * 4)[0]
    out, _, high, wide = weight.shape
    rows = (padded.shape[1] - high) // stride + 1
    columns = (padded.shape[2] - wide) // stride + 1
    maps = torch.zeros(1, out, rows, columns, dtype=image.dtype)
    for o in range(out):
        for i in range(rows):
            for j in range(columns):
                top, left = i * stride, j * stride
                window = padded[:, top : top + high, left : left + wide]
                maps[0, o, i, j] = (window * weight[o]).sum() + bias[o]
    return maps


def parameters(c_in: int, c_out: int, k: int, groups: int = 1) -> int:
    """Return how many numbers a convolution with bias has to learn.

    >>> parameters(64, 64, 3)
    36928
    """
    return c_in // groups * c_out * k * k + c_out


def convolve(x: Tensor, k: Tensor) -> Tensor:
    """Return the convolution of two signals as a textbook defines it: flip, slide, add up."""
    flipped = k.flip(0)
    padded = F.pad(x, (len(k) - 1, len(k) - 1))
    return torch.stack(
        [(padded[n : n + len(k)] * flipped).sum() for n in range(len(x) + len(k) - 1)]
    )


def _as_torch(
    image: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, maps: Tensor
) -> list[Claim]:  # fmt: skip
    out, channels, k, _ = weight.shape
    layer = nn.Conv2d(channels, out, k, stride=stride, padding=padding, dtype=torch.float64)
    shape = tuple(layer.weight.shape)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)  # type: ignore[union-attr]
    return [
        agrees("The loops compute F.conv2d", maps, F.conv2d(image, weight, bias, stride, padding),
               1e-12),
        agrees("and nn.Conv2d with the same weights", maps, layer(image), 1e-12),
        is_true("The layer's weights have the shape (out, in, height, width)",
                shape == (out, channels, k, k)),
        is_true("Conv2d(3, 16, 3) has weights of (16, 3, 3, 3)",
                nn.Conv2d(3, 16, 3).weight.shape == (16, 3, 3, 3)),
    ]  # fmt: skip


def _sums(
    image: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, maps: Tensor
) -> list[Claim]:  # fmt: skip
    alone = [
        F.conv2d(image[:, c : c + 1], weight[:, c : c + 1], None, stride, padding)
        for c in range(image.shape[1])
    ]
    added = torch.stack(alone).sum(0) + bias[:, None, None]
    other = weight.clone()
    other[0] += 1
    changed = (F.conv2d(image, other, bias, stride, padding) != maps).flatten(2).any(2)[0]
    return [
        agrees("A map is the sum of the maps of the channels, and the bias once", added, maps,
               1e-12),
        is_true("Another kernel 0 changes map 0 and no other",
                bool(changed[0]) and not changed[1:].any()),
    ]  # fmt: skip


def _signals(seed: int) -> list[Claim]:
    draws = generator(seed, "lab", 1)
    x = torch.randn(20, generator=draws, dtype=torch.float64)
    k = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64)
    theirs = torch.from_numpy(np.convolve(x.numpy(), k.numpy()))
    layer = F.conv1d(x[None, None], k[None, None], padding=3)[0, 0]
    flipped = F.conv1d(x[None, None], k.flip(0)[None, None], padding=3)[0, 0]
    return [
        agrees("Flip, slide, add up is numpy.convolve", convolve(x, k), theirs, 1e-12),
        agrees("A layer computes it with a flipped kernel", flipped, theirs, 1e-12, "T3.2"),
        at_least("and something else with the kernel as it is: largest difference",
                 (layer - theirs).abs().max(), 0.01, "T3.2"),
    ]  # fmt: skip


def _counts(rows: Sequence[tuple[int, ...]]) -> list[Claim]:
    wrong = sum(
        sum(p.numel() for p in nn.Conv2d(a, b, k, groups=g).parameters()) != n
        for a, b, k, g, _, n in rows
    )
    return [
        equals("in / groups * out * k * k + out counts PyTorch's parameters: exceptions", wrong, 0,
               0, "T3.3"),
        equals("64 channels to 64 by 3x3 still have this many to learn", parameters(64, 64, 3),
               36928, 0, "T3.28"),
    ]  # fmt: skip


def _draw(
    image: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, maps: Tensor
) -> Figure:  # fmt: skip
    from matplotlib.figure import Figure

    from pellucid.labs.drawing import GREEN, bare

    shown = min(image.shape[1], 3)
    figure = Figure(figsize=(12, 7.6), layout="constrained")
    figure.suptitle("Convolution: a window slides (above); channels add up (below)",
                    fontweight="bold")  # fmt: skip
    grid = figure.subplots(2, 5)
    k = weight.shape[2]
    padded = F.pad(image, [padding] * 4)[0]
    columns = maps.shape[3]
    one = F.conv2d(image[:, :1], weight[:1, :1], None, stride, padding)[0, 0]
    for place in range(3):  # three frames of the film
        axis = grid[0, place]
        n = round(place * (one.numel() - 1) / 2)
        i, j = divmod(n, columns)
        _numbers(axis, padded[0], (i * stride, j * stride, k))
        name = f"{float(one[i, j]):g}"
        axis.set_title(f"place ({i}, {j}): sum {name}", fontsize=10)
    _numbers(grid[0, 3], weight[0, 0])
    grid[0, 3].set_title("weights for channel 0", fontsize=10)
    _numbers(grid[0, 4], one)
    grid[0, 4].set_title("all sums: channel 0", fontsize=10)
    for c in range(3):
        if c < shown:
            part = F.conv2d(image[:, c : c + 1], weight[:1, c : c + 1], None, stride, padding)
            _numbers(grid[1, c], part[0, 0])
            grid[1, c].set_title(f"{'' if c == 0 else '+ '}channel {c}, its weights", fontsize=10)
        else:
            grid[1, c].set_axis_off()
    rest = f"\n(and {image.shape[1] - 3} more channels)" if image.shape[1] > 3 else ""
    bare(grid[1, 3], "")
    grid[1, 3].text(0.5, 0.5, f"+ bias {float(bias[0]):g}{rest}\n=", ha="center", va="center",
                    fontsize=13, color=GREEN)  # fmt: skip
    _numbers(grid[1, 4], maps[0, 0])
    grid[1, 4].set_title(f"map 0 of {weight.shape[0]}", fontsize=10)
    return figure


def _numbers(axis: Axes, values: Tensor, window: tuple[int, int, int] | None = None) -> None:
    """Draw a matrix with its numbers, and the window on it."""
    from matplotlib.patches import Rectangle

    from pellucid.labs.drawing import RED

    top = max(float(values.abs().max()), 1.0)
    axis.imshow(values.numpy(), cmap="coolwarm", vmin=-2 * top, vmax=2 * top)
    if values.shape[0] <= 8:
        for i, row in enumerate(values.tolist()):
            for j, value in enumerate(row):
                axis.text(j, i, f"{value:g}", ha="center", va="center", fontsize=8)
    if window:
        i, j, k = window
        axis.add_patch(Rectangle((j - 0.5, i - 0.5), k, k, fill=False, edgecolor=RED, linewidth=3))
    axis.set(xticks=[], yticks=[])
