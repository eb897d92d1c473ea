"""What shape an operation should give, by its formula; and how much it computes.

Convolution and pooling: floor((H + 2 p - d (k - 1) - 1) / s) + 1. In ceil mode the division is
rounded up, but a last window that would start in the padding behind the image is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pellucid.inspection.calls import ACTIVATIONS
from pellucid.inspection.trace import Op

SAME = ACTIVATIONS | frozenset(
    [
        "batch_norm",
        "layer_norm",
        "group_norm",
        "instance_norm",
        "dropout",
        "dropout2d",
        "dropout_",
        "softmax",
        "log_softmax",
        "clone",
        "contiguous",
        "normalize",
    ]
)
"""Operations of one tensor that keep its shape."""

SUMS = frozenset(
    [
        "add",
        "add_",
        "__add__",
        "__iadd__",
        "__radd__",
        "sub",
        "__sub__",
        "mul",
        "mul_",
        "__mul__",
        "__rmul__",
        "__imul__",
        "div",
        "__truediv__",
        "maximum",
        "minimum",
    ]
)
"""Operations of two tensors, element by element."""

MAX_POOLS = frozenset(("max_pool2d", "_max_pool2d", "max_pool2d_with_indices"))
POOLS = MAX_POOLS | {"avg_pool2d"}
ADAPTIVE = frozenset(("adaptive_avg_pool2d", "adaptive_max_pool2d", "_adaptive_max_pool2d"))


@dataclass(frozen=True)
class Window:
    """How an operation slides over the image, each a pair (height, width).

    Args:
        kernel: size of the window.
        stride: of the window.
        before: padding above and left.
        after: padding below and right.
        dilation: distance of the window's cells.
        ceil: whether the number of places is rounded up.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil: bool = False

    def size(self, axis: int, length: int) -> int:
        """Return the number of places along `axis` of an image that is `length` long."""
        room = length + self.before[axis] + self.after[axis]
        room -= self.dilation[axis] * (self.kernel[axis] - 1) + 1
        if not self.ceil:
            return room // self.stride[axis] + 1
        places = math.ceil(room / self.stride[axis]) + 1
        if (places - 1) * self.stride[axis] >= length + self.before[axis]:
            places -= 1
        return places

    def text(self, axis: int, length: int) -> str:
        """Return the formula with the numbers put in."""
        k, s, d = self.kernel[axis], self.stride[axis], self.dilation[axis]
        p, q = self.before[axis], self.after[axis]
        padding = f"2*{p}" if p == q else f"{p} + {q}"
        rounding = "ceil" if self.ceil else "floor"
        span = f"{d}*({k} - 1)"
        return f"{rounding}(({length} + {padding} - {span} - 1)/{s}) + 1 = " + (
            f"{self.size(axis, length)}"
        )


def pair(value: Any) -> tuple[int, int]:
    """Return a setting of height and width, which may be given as one number."""
    if isinstance(value, int):
        return value, value
    values = [int(v) for v in value]
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def argument(op: Op, place: int, name: str, default: Any) -> Any:
    """Return an argument of a call, given by place or by name."""
    if len(op.args) > place:
        return op.args[place]
    return op.kwargs.get(name, default)


def window(op: Op) -> Window | None:
    """Return how `op` slides over its image, or None if it does not."""
    if op.call == "conv2d":
        return _convolution(op)
    if op.call in POOLS:
        kernel = pair(argument(op, 1, "kernel_size", 1))
        stride = argument(op, 2, "stride", None)
        padding = pair(argument(op, 3, "padding", 0))
        is_max = op.call in MAX_POOLS
        dilation = pair(argument(op, 4, "dilation", 1)) if is_max else (1, 1)
        ceil = bool(argument(op, 5 if is_max else 4, "ceil_mode", False))
        step = pair(stride) if stride else kernel
        return Window(kernel, step, padding, padding, dilation, ceil)
    if op.call == "pad" and op.out.dim() == 4 and len(op.args) > 1 and len(op.args[1]) in (2, 4):
        left, right, *rest = (int(n) for n in op.args[1])
        top, bottom = rest or (0, 0)
        return Window((1, 1), (1, 1), (top, left), (bottom, right))
    return None


def _convolution(op: Op) -> Window:
    weight: Tensor = argument(op, 1, "weight", None)
    kernel = pair(tuple(weight.shape[2:]))
    dilation = pair(argument(op, 5, "dilation", 1))
    given = argument(op, 4, "padding", 0)
    if given == "same":  # an odd cell more goes behind
        total = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        before = (total[0] // 2, total[1] // 2)
        after = (total[0] - before[0], total[1] - before[1])
    else:
        before = after = (0, 0) if given == "valid" else pair(given)
    return Window(kernel, pair(argument(op, 3, "stride", 1)), before, after, dilation)


def predicted(op: Op) -> tuple[tuple[int, ...] | None, str]:
    """Return the shape that `op` should give, and how that is computed; None without a formula.

    The batch is the first number of the shape.
    """
    given: Any = op.args[0] if op.args else None
    if not isinstance(given, Tensor):
        return None, ""
    shape = tuple(given.shape)
    sliding = window(op)
    if sliding and len(shape) == 4:
        size = tuple(sliding.size(axis, shape[2 + axis]) for axis in (0, 1))
        text = sliding.text(0, shape[2])
        if shape[2] != shape[3] or len({*sliding.kernel}) > 1:
            text = f"H: {text}; W: {sliding.text(1, shape[3])}"
        channels = op.args[1].shape[0] if op.call == "conv2d" else shape[1]
        return (shape[0], channels, *size), text
    if op.call == "linear":
        weight: Tensor = argument(op, 1, "weight", None)
        return (*shape[:-1], weight.shape[0]), f"{weight.shape[1]} -> {weight.shape[0]}"
    if op.call == "flatten":
        return _flat(shape, argument(op, 1, "start_dim", 0), argument(op, 2, "end_dim", -1))
    if op.call in ADAPTIVE:
        size = _adaptive(argument(op, 1, "output_size", None), shape)
        return (*shape[:-2], *size), f"any size -> {size[0]}x{size[1]}"
    if op.call in SAME:
        return shape, "same"
    if op.call in SUMS:
        return _broadcast(op.args), "same"
    return None, ""


def _flat(shape: tuple[int, ...], first: int, last: int) -> tuple[tuple[int, ...], str]:
    first, last = first % len(shape), last % len(shape)
    sizes = shape[first : last + 1]
    text = "*".join(map(str, sizes)) + f" = {math.prod(sizes)}"
    return (*shape[:first], math.prod(sizes), *shape[last + 1 :]), text


def _adaptive(size: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = (size, size) if size is None or isinstance(size, int) else tuple(size)
    return tuple(
        old if new is None else new for new, old in zip(sizes, shape[-2:], strict=True)
    )  # fmt: skip


def _broadcast(args: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape of two tensors element by element; equal sizes, or 1."""
    shapes = [tuple(arg.shape) for arg in args if isinstance(arg, Tensor)]
    rank = max(len(shape) for shape in shapes)
    full = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*full, strict=True))


def macs(op: Op) -> int:
    """Return the multiplications with addition that `op` takes, biases not counted.

    A convolution takes one per output value and cell of the kernel, a linear layer one per
    weight and row, a product of matrices one per output value and inner index; all else counts
    as none.
    """
    if op.call in ("conv1d", "conv2d", "conv3d"):
        weight: Tensor = argument(op, 1, "weight", None)
        return op.out.numel() * math.prod(weight.shape[1:])
    if op.call == "linear":
        weight = argument(op, 1, "weight", None)
        return op.out.numel() * weight.shape[1]
    if op.call in ("matmul", "__matmul__", "bmm", "mm"):
        return op.out.numel() * int(op.args[0].shape[-1])
    if op.call == "scaled_dot_product_attention":
        query, key, value = op.args[:3]
        inner = query.shape[-1] + value.shape[-1]
        return int(query[..., 0].numel() * key.shape[-2] * inner)
    return 0
