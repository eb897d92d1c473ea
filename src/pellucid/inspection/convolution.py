"""One value of one map, taken apart: patch times kernel, channel by channel, and the bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.inspection.calls import ACTIVATIONS, WEIGHTED
from pellucid.inspection.formulas import Window, argument, window
from pellucid.inspection.receptive import Field, fields
from pellucid.inspection.trace import Op, looking, trace
from pellucid.viewdata import DoesNotApply


@dataclass(frozen=True, eq=False)
class Convolution:
    """One convolution of a forward pass.

    Args:
        name: of the layer; `#2` and so on where it is used again.
        op: its index among the operations of the forward pass.
        given: its input, (C, H, W).
        out: its output, (K, H', W').
        weight: (K, C / groups, kh, kw).
        bias: (K,), or None.
        groups: of channels that do not mix.
        sliding: stride, padding, dilation.
        seen: the receptive field of its output.
        after: the function that follows before the next layer with weights: its name and output
            for one image, or None.
        of_image: its input is the image itself.
    """

    name: str
    op: int
    given: Tensor
    out: Tensor
    weight: Tensor
    bias: Tensor | None
    groups: int
    sliding: Window
    seen: Field | None
    after: tuple[str, Tensor] | None
    of_image: bool


@dataclass(frozen=True, eq=False)
class Cells:
    """What adds up to one value.

    Args:
        channels: which channels of the input take part.
        patch: what the kernel lies on, float64 (C, kh, kw).
        kernel: its weights, float64 (C, kh, kw).
        padded: which cells lie outside the map, bool (kh, kw).
        bias: what is added, 0 without one.
        value: what the layer gave.
    """

    channels: range
    patch: Tensor
    kernel: Tensor
    padded: Tensor
    bias: float
    value: float

    @property
    def products(self) -> Tensor:
        """Patch times kernel, cell by cell."""
        return self.patch * self.kernel

    @property
    def total(self) -> float:
        """All products and the bias."""
        return float(self.products.sum()) + self.bias


def convolutions(model: nn.Module, image: Tensor) -> list[Convolution]:
    """Return all 2-d convolutions of a forward pass of one image, in order.

    Args:
        model: any.
        image: (1, C, H, W), prepared.

    Raises:
        DoesNotApply: if there is none.
    """
    with looking(model), torch.no_grad():
        ops = trace(model, image)
    seen = fields(ops)
    found: list[Convolution] = []
    for op in ops:
        if op.call != "conv2d":
            continue
        sliding, weight = window(op), argument(op, 1, "weight", None)
        bias: Tensor | None = argument(op, 2, "bias", None)
        assert sliding is not None
        before = sum(c.name.split("#")[0] == op.name for c in found)
        field = seen[op.index]
        place = field if isinstance(field, Field) else None
        found.append(
            Convolution(
                op.name + (f"#{before + 1}" if before else ""), op.index, _given(ops, op, image)[0],
                op.out[0], weight.detach(), None if bias is None else bias.detach(),
                argument(op, 6, "groups", 1), sliding, place, _after(ops, op),
                op.sources[:1] == (-1,),
            )
        )  # fmt: skip
    if not found:
        raise DoesNotApply("This model has no 2-d convolution.")
    return found


def _given(ops: Sequence[Op], op: Op, image: Tensor) -> Tensor:
    """Return the input of `op` as it was then, whatever has been done to it in place since."""
    given: Tensor = op.args[0]
    if op.sources:
        copy = image if op.sources[0] < 0 else ops[op.sources[0]].out
        if copy.shape == given.shape:
            return copy
    return given.detach()


def _after(ops: Sequence[Op], op: Op) -> tuple[str, Tensor] | None:
    """Return the nonlinearity right behind `op`, if it works on the very values of `op`."""
    for later in ops[op.index + 1 :]:
        if later.call in WEIGHTED:
            return None
        if later.call in ACTIVATIONS and op.index in later.sources:
            return later.call.strip("_"), later.out[0]
    return None


def cells(layer: Convolution, unit: int, place: tuple[int, int]) -> Cells:
    """Return what adds up to the value of `unit` at `place` (row, column).

    Cells in the padding are 0 there, whatever lies at the edge of the map.

    >>> net = nn.Conv2d(1, 1, 3, padding=1)
    >>> found = cells(convolutions(net, torch.ones(1, 1, 5, 5))[0], 0, (0, 2))
    >>> found.padded.tolist()
    [[True, True, True], [False, False, False], [False, False, False]]
    >>> abs(found.total - found.value) < 1e-6
    True
    """
    kernel = layer.weight[unit].double()
    width = kernel.shape[0]
    group = unit // (layer.weight.shape[0] // layer.groups)
    channels = range(group * width, (group + 1) * width)
    height, length = layer.given.shape[1:]
    rows, columns = (_cover(layer.sliding, axis, place[axis]) for axis in (0, 1))
    y, x = torch.tensor(rows), torch.tensor(columns)
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < length))[None, :]
    part = layer.given[group * width : (group + 1) * width].double()
    patch = part[:, y.clamp(0, height - 1)][:, :, x.clamp(0, length - 1)]
    patch = patch * inside.to(patch)
    bias = 0.0 if layer.bias is None else float(layer.bias[unit])
    value = float(layer.out[unit, place[0], place[1]])
    return Cells(channels, patch, kernel, ~inside, bias, value)


def naive(layer: Convolution, unit: int, place: tuple[int, int]) -> float:
    """Return the same value by three plain loops over numbers."""
    total = 0.0 if layer.bias is None else float(layer.bias[unit])
    weights = layer.weight[unit].tolist()
    image = layer.given.tolist()
    first = unit // (layer.weight.shape[0] // layer.groups) * len(weights)
    slide = layer.sliding
    for c, kernel in enumerate(weights):
        for i, row in enumerate(kernel):
            for j, weight in enumerate(row):
                y = place[0] * slide.stride[0] - slide.before[0] + i * slide.dilation[0]
                x = place[1] * slide.stride[1] - slide.before[1] + j * slide.dilation[1]
                if 0 <= y < len(image[0]) and 0 <= x < len(image[0][0]):
                    total += weight * image[first + c][y][x]
    return total


def _cover(sliding: Window, axis: int, at: int) -> list[int]:
    start = at * sliding.stride[axis] - sliding.before[axis]
    return [start + i * sliding.dilation[axis] for i in range(sliding.kernel[axis])]
