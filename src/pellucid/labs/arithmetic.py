"""Arithmetic of windows: how large a map a convolution or a pooling layer leaves.

Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.errors import UserError
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_most, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Window(NamedTuple):
    """What slides: a kernel of `k` taps, `d` apart, `s` onwards each time, `p` zeros around."""

    k: int
    s: int = 1
    p: int = 0
    d: int = 1


@lab
def run(
    *,
    size: Annotated[int, ranged("height and width of the image", 1, 64)] = 28,
    kernel: Annotated[int, ranged("taps of the window", 1, 11)] = 3,
    stride: Annotated[int, ranged("pixels from one window to the next", 1, 8)] = 1,
    padding: Annotated[int, ranged("rows of zeros around the image", 0, 8)] = 0,
    dilation: Annotated[int, ranged("pixels from one tap to the next", 1, 4)] = 1,
    ceil: Annotated[bool, about("keep a last window that is only partly filled (pooling)")] = False,
    target: Annotated[int, ranged("the size that the solver looks for", 1, 64)] = 14,
) -> LabResult:
    """Compute the size of a map, and find the settings that give a wanted one."""
    window = Window(kernel, stride, padding, dilation)
    reach = dilation * (kernel - 1) + 1
    if reach > size + 2 * padding:
        raise UserError(
            f"A window of {reach} pixels does not fit into {size} + 2 * {padding} pixels: "
            f"--size {size}, --kernel {kernel}, --padding {padding}, --dilation {dilation}. "
            "Take a larger --size or --padding, or a smaller --kernel or --dilation."
        )
    out = length(size, window, ceil)
    found = list(settings(size, target))
    text = f"""
        A window of {kernel} taps, {dilation} apart, reaches over {dilation} * ({kernel} - 1) + 1 =
        {reach} pixels. It starts at the left edge and moves on by the stride while it fits:

            out = floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1
                = floor(({size} + 2 * {padding} - {dilation} * ({kernel} - 1) - 1) / {
        stride
    }) + 1 = {length(size, window)}

        So {size}x{size} becomes {out}x{out}{" (with ceil for floor)" if ceil else ""}; the last
        window starts at pixel {(out - 1) * stride - padding}. Height and width have a sum of their
        own: a 3x5 kernel on 28x28 leaves 26x24. The number of channels is not in the formula: it
        is the number of kernels. The default of the stride is 1 for a convolution and the kernel
        for pooling, whose padding may be half of the kernel at most.

        In ceil mode a last window is kept that is only partly filled. One that would start
        wholly in the padding on the right is dropped all the same: 5 pixels, kernel 2, stride 3,
        padding 1 leave 2, not ceil(5 / 3) + 1 = 3.

        Padding that keeps the size is dilation (kernel - 1) / 2, for stride 1 and an odd kernel;
        "half of the kernel" fails for even ones: 28 pixels, kernel 4, padding 2 leave 29.

        Backwards: {len(found)} settings turn {size} into {target} (kernel up to 7, stride up to 4,
        padding up to half of the reach, dilation up to 2).
    """
    rows = [
        (*case, length(case[0], Window(*case[1:])))
        for case in ((28, 3, 1, 0), (28, 3, 1, 1), (5, 3, 1, 1), (28, 5, 1, 0), (28, 2, 2, 0),
                     (28, 3, 2, 1), (32, 7, 2, 3), (224, 7, 2, 3))
    ]  # fmt: skip
    tables = [Table(("size", "kernel", "stride", "padding", "out"), rows, "Worked examples")]
    if found:
        head = ("kernel", "stride", "padding", "dilation")
        tables.append(Table(head, found[:12], f"{size} -> {target}: the first of {len(found)}"))
    claims = [*_as_torch(), *_examples(), *_solver(size, target, found), *_transposed(), *_cover()]
    draw = partial(_draw, size, window, out, target)
    values = {"out": out, "settings": [list(w) for w in found]}
    return LabResult(text, claims, draw, tables, values)


def length(size: int, window: Window, ceil: bool = False) -> int:
    """Return how many places a window has along `size` pixels.

    >>> length(28, Window(3)), length(28, Window(3, p=1)), length(28, Window(2, s=2))
    (26, 28, 14)
    """
    k, s, p, d = window
    room = size + 2 * p - d * (k - 1) - 1
    if not ceil:
        return room // s + 1
    out = -(-room // s) + 1
    return out - 1 if (out - 1) * s >= size + p else out  # it would see nothing but padding


def settings(size: int, target: int) -> Iterator[Window]:
    """Yield the windows that leave `target` of `size` pixels, small kernels first."""
    for k, s, d in product(range(1, 8), range(1, 5), (1, 2)):
        if k == 1 and d > 1:
            continue  # one tap has no distance to the next
        for p in range(d * (k - 1) // 2 + 1):
            window = Window(k, s, p, d)
            if size + 2 * p > d * (k - 1) and length(size, window) == target:
                yield window


def _as_torch() -> list[Claim]:
    """Return in how many cases of a full grid the formula is not what PyTorch does."""
    convolutions = pools = wrong_convolutions = wrong_pools = 0
    for size, k, s, d in product(range(1, 13), range(1, 5), range(1, 5), range(1, 4)):
        x = torch.zeros(1, 1, size)
        for p in range(3):
            if size + 2 * p <= d * (k - 1):
                continue
            window = Window(k, s, p, d)
            made = F.conv1d(x, torch.zeros(1, 1, k), stride=s, padding=p, dilation=d).shape[2]
            convolutions += 1
            wrong_convolutions += made != length(size, window)
            if p > k // 2:
                continue
            for ceil in (False, True):
                made = F.max_pool1d(x, k, s, p, d, ceil).shape[2]
                pools += 1
                wrong_pools += made != length(size, window, ceil)
    return [
        equals(f"The formula is PyTorch's convolution: exceptions in {convolutions:,} cases",
               wrong_convolutions, 0, 0, "T3.1"),
        equals(f"and its pooling, with floor and ceil: exceptions in {pools:,} cases",
               wrong_pools, 0, 0, "T3.1"),
        equals("5 pixels, kernel 2, stride 3, padding 1, ceil: PyTorch leaves",
               F.max_pool1d(torch.zeros(1, 1, 5), 2, 3, 1, 1, True).shape[2], 2, 0, "T3.1"),
    ]  # fmt: skip


def _examples() -> list[Claim]:
    grey, colour = torch.zeros(1, 1, 28, 28), torch.zeros(1, 3, 28, 28)
    cases = (
        ("28x28, kernel 3: 26x26", nn.Conv2d(1, 1, 3)(grey), (1, 26, 26), (28, Window(3))),
        ("with padding 1: 28x28", nn.Conv2d(1, 1, 3, padding=1)(grey), (1, 28, 28),
         (28, Window(3, p=1))),
        ("5x5, kernel 3, padding 1: 5x5", nn.Conv2d(1, 1, 3, padding=1)(grey[:, :, :5, :5]),
         (1, 5, 5), (5, Window(3, p=1))),
        ("7 kernels on 28x28: 7x26x26", nn.Conv2d(1, 7, 3)(grey), (7, 26, 26), (28, Window(3))),
        ("16 kernels on 3x28x28: 16x26x26", nn.Conv2d(3, 16, 3)(colour), (16, 26, 26),
         (28, Window(3))),
        ("kernel 3x5 on 28x28: 26x24", nn.Conv2d(1, 1, (3, 5))(grey), (1, 26, 24),
         (28, Window(3))),
        ("pooling by 2 has stride 2 unasked: 14x14", nn.MaxPool2d(2)(grey), (1, 14, 14),
         (28, Window(2, 2))),
    )  # fmt: skip
    claims = [
        is_true(words, made.shape[1:] == shape and length(*ours) == shape[1])
        for words, made, shape, ours in cases
    ]
    even = length(28, Window(4, p=2))
    return [*claims, equals("Half of an even kernel as padding does not keep the size: 28 becomes",
                            even, 29, 0, "T3.8")]  # fmt: skip


def _solver(size: int, target: int, found: list[Window]) -> list[Claim]:
    x = torch.zeros(1, 1, size)
    right = sum(
        F.conv1d(x, torch.zeros(1, 1, k), stride=s, padding=p, dilation=d).shape[2] == target
        for k, s, p, d in found
    )
    halves = set(settings(28, 14))
    return [
        equals(f"Settings of the solver that PyTorch confirms, of {len(found)}", right,
               len(found), 0),
        is_true("28 becomes 14 by a 2x2 window at stride 2, and by 3x3 at stride 2, padding 1",
                {Window(2, 2), Window(3, 2, 1)} <= halves),
        is_true("but not by 3x3 at stride 2 without padding", Window(3, 2) not in halves),
    ]  # fmt: skip


def _transposed() -> list[Claim]:
    """Return how far the transposed convolution is from the adjoint of the convolution."""
    draws = generator(0, "lab")
    worst, sizes = 0.0, True
    for size, k, s, p, d in product((7, 8, 12), (1, 2, 3), (1, 2, 3), (0, 1), (1, 2)):
        w = torch.randn(4, 3, k, k, generator=draws, dtype=torch.float64)
        x = torch.randn(1, 3, size, size, generator=draws, dtype=torch.float64)
        there = F.conv2d(x, w, stride=s, padding=p, dilation=d)
        y = torch.randn(there.shape, generator=draws, dtype=torch.float64)
        left = (size + 2 * p - d * (k - 1) - 1) % s  # pixels that no window reaches
        back = F.conv_transpose2d(y, w, stride=s, padding=p, dilation=d, output_padding=left)
        sizes = sizes and back.shape == x.shape
        if back.shape == x.shape:
            gap = (there * y).sum() - (x * back).sum()
            worst = max(worst, abs(float(gap)) / float(there.norm() * y.norm()))
    return [
        is_true("The transposed convolution leads back to the size (output_padding: the remainder)",
                sizes),
        at_most("and is the adjoint: <Ax, y> = <x, A'y>, relative", worst, 1e-13),
    ]  # fmt: skip


def _cover() -> list[Claim]:
    """Return how often each pixel of 5x5 is seen by a 3x3 window without padding."""
    seen = F.conv_transpose2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3))[0, 0]
    edge = seen[0, 1:4].tolist()
    return [
        is_true("3x3 on 5x5: a corner is seen once, an edge 2 or 3 times, the centre 9 times",
                seen[0, 0] == 1 and edge == [2, 3, 2] and seen[2, 2] == 9, "T3.26"),
    ]  # fmt: skip


def _places(size: int, window: Window, out: int) -> Tensor:
    """Return a picture of the windows: 0 outside, 1 padding, 2 pixel, 3 tap; (out, width)."""
    k, s, p, d = window
    width = max(size + 2 * p, (out - 1) * s + d * (k - 1) + 1)
    places = torch.zeros(out, width)
    places[:, : size + 2 * p] = 1
    places[:, p : p + size] = 2
    for place in range(out):
        places[place, place * s : place * s + d * (k - 1) + 1 : d] = 3
    return places


def _draw(size: int, window: Window, out: int, target: int) -> Figure:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    from pellucid.labs.drawing import COLOURS, finish, sheet

    figure, (slide, curve) = sheet(f"{size} pixels become {out}", 2, size=(12, 5))
    colours = ["white", "#f2c879", "#d6e4ee", "#1b6ca8"]
    places = _places(size, window, out).numpy()
    slide.pcolormesh(places, cmap=ListedColormap(colours), vmin=0, vmax=3,
                     edgecolors="#aaaaaa", linewidth=0.3)  # fmt: skip
    slide.invert_yaxis()
    names = [(colours[3], "tap of the window"), (colours[2], "pixel")]
    names += [(colours[1], "padding")] if window.p else []
    slide.legend(handles=[Patch(facecolor=c, edgecolor="#888888", label=n) for c, n in names],
                 loc="upper right", fontsize=8)  # fmt: skip
    finish(slide, "where each window stands", "pixel, with padding", "pixel of the map")
    slide.grid(visible=False)
    for stride, colour, mark in zip((1, 2, 3, 4), COLOURS, "os^v", strict=False):
        kernels = [k for k in range(1, 12) if k <= size + 2 * window.p]
        sizes = [length(size, Window(k, stride, window.p)) for k in kernels]
        curve.plot(kernels, sizes, color=colour, marker=mark, label=f"stride {stride}")
    curve.axhline(target, color="#333333", linestyle=":", label=f"wanted: {target}")
    finish(curve, f"size of the map, padding {window.p}", "kernel", "pixels", legend=True)
    return figure
