"""The shape and the cost of each layer: predicted by formula, compared with what happened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pellucid.inspection.formulas import macs, predicted
from pellucid.inspection.receptive import Field, Seen, fields
from pellucid.inspection.trace import Broken, Op, Tracer, looking

HIDDEN = frozenset(
    [
        "view",
        "reshape",
        "permute",
        "transpose",
        "contiguous",
        "to",
        "float",
        "clone",
        "chunk",
        "split",
        "unbind",
        "__getitem__",
        "expand",
        "unsqueeze",
        "squeeze",
        "detach",
    ]
)
"""Operations that only rearrange; they get no row unless they hold weights."""


@dataclass(frozen=True)
class Row:
    """One operation.

    Args:
        name: of the layer.
        call: of the function.
        given: shape of its input, without the batch.
        out: shape of its output, without the batch.
        formula: with the numbers put in; empty where there is none.
        predicted: shape by the formula, or None where there is none.
        parameters: numbers to learn that are used here first.
        macs: multiplications with addition for one image.
        kept: bytes that are kept for the backward pass of one image, used here first.
        seen: receptive field.
    """

    name: str
    call: str
    given: tuple[int, ...]
    out: tuple[int, ...]
    formula: str
    predicted: tuple[int, ...] | None
    parameters: int
    macs: int
    kept: int
    seen: Seen

    @property
    def wrong(self) -> bool:
        """Whether the formula gives another shape than the layer did."""
        return self.predicted is not None and self.predicted != self.out


@dataclass(frozen=True)
class Break:
    """Where a forward pass stopped.

    Args:
        name: of the layer.
        call: of the function.
        given: shape of its input, without the batch.
        reason: what does not fit, in words.
        advice: what would fit.
    """

    name: str
    call: str
    given: tuple[int, ...]
    reason: str
    advice: str


@dataclass(frozen=True)
class Shapes:
    """All layers of a forward pass of one image.

    Args:
        rows: in order.
        parameters: of the whole model, counted over `model.parameters()`.
        unused: names of parameters that the forward pass does not use, with their numbers.
        broken: where it stopped, or None.
    """

    rows: tuple[Row, ...]
    parameters: int
    unused: tuple[tuple[str, int], ...]
    broken: Break | None


def shapes(model: nn.Module, image: Tensor) -> Shapes:
    """Return the shape and the cost of each layer of `model` on one image.

    Shared weights count once, where they are used first. What is kept for the backward pass are
    the tensors that autograd saves in eval mode, parameters left out.

    Args:
        model: any; its mode, weights and gradients are left as they are.
        image: (1, C, H, W); the values do not matter.

    >>> net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5))
    >>> [(r.out, r.seen.size[0]) for r in shapes(net, torch.zeros(1, 1, 28, 28)).rows]
    [((6, 24, 24), 5), ((6, 12, 12), 6), ((16, 8, 8), 14)]
    """
    own = {id(p): p for p in model.parameters()}
    used: set[int] = set()
    ops: list[Op] = []
    parameters: list[int] = []
    kept: list[int] = [0]
    storages = {p.untyped_storage().data_ptr() for p in own.values()}

    def saving(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()
        if place.data_ptr() not in storages:
            storages.add(place.data_ptr())
            kept[-1] += place.nbytes()
        return tensor

    def note(op: Op) -> None:
        new = {id(t) for t in _tensors(op)} & own.keys() - used
        used.update(new)
        parameters.append(sum(own[key].numel() for key in new))
        ops.append(op)
        kept.append(0)

    broken: Break | None = None
    with looking(model), torch.enable_grad(), saved_tensors_hooks(saving, lambda tensor: tensor):
        try:
            with Tracer(model, image, note, keep=True):
                model(image)
        except Broken as error:
            broken = _explain(error, ops)
    seen = fields(ops)
    rows = []
    for op, count, size, field in zip(ops, parameters, kept, seen, strict=False):
        if op.call in HIDDEN and not count:
            continue
        guess, formula = predicted(op)
        first = next((a for a in op.args if isinstance(a, Tensor)), op.out)
        rows.append(
            Row(op.name, op.call.strip("_"), tuple(first.shape[1:]), tuple(op.out.shape[1:]),
                formula, None if guess is None else guess[1:], count, macs(op), size, field)
        )  # fmt: skip
    unused = tuple((n, p.numel()) for n, p in model.named_parameters() if id(p) not in used)
    return Shapes(tuple(rows), sum(p.numel() for p in own.values()), unused, broken)


def _tensors(op: Op) -> list[Tensor]:
    found: list[Tensor] = []
    for arg in (*op.args, *op.kwargs.values()):
        values = arg if isinstance(arg, tuple | list) else (arg,)
        found += [value for value in values if isinstance(value, Tensor)]
    return found


def _explain(error: Broken, ops: Sequence[Op]) -> Break:
    """Say what does not fit, and what would."""
    given = [arg for arg in error.given if isinstance(arg, Tensor)]
    shape = tuple(given[0].shape) if given else ()
    name = error.layer or error.call.strip("_")
    reason, advice = error.reason, ""
    if error.call == "linear" and len(given) > 1:
        wanted, got = int(given[1].shape[1]), int(shape[-1])
        before = next((op for op in reversed(ops) if op.out.dim() == 4), None)
        maps = tuple(before.out.shape[1:]) if before else ()
        fits = bool(maps) and math.prod(maps) == got
        product = f" = {'*'.join(map(str, maps))}" if fits else ""
        reason = f"it is built for {wanted} numbers and gets {got}{product}"
        advice = f"build it with in_features={got}"
    elif error.call == "conv2d" and len(given) > 1 and len(shape) == 4:
        groups = 1 if len(error.given) < 7 else int(error.given[6])
        wanted = int(given[1].shape[1]) * groups
        if wanted != shape[1]:
            reason = f"it is built for {wanted} channels and gets {shape[1]}"
            advice = f"build it with in_channels={shape[1]}"
        else:
            reason = f"the image of {shape[2]}x{shape[3]} is smaller than the window"
            advice = "take larger images, fewer pools, or padding"
    elif error.call.strip("_").endswith("pool2d"):
        reason = f"the map of {shape[-2]}x{shape[-1]} is smaller than the window"
        advice = "take larger images or fewer pools"
    return Break(name, error.call.strip("_"), shape[1:], reason, advice)


def jump_of(seen: Seen) -> tuple[str, str]:
    """Return receptive field and jump as text.

    >>> jump_of(Field((14, 14), (2, 2))), jump_of("whole image"), jump_of(None)
    (('14', '2'), ('all', '-'), ('-', '-'))
    """
    if isinstance(seen, Field):
        return _size(seen.size), _size(seen.jump)
    return ("all" if seen else "-"), "-"


def _size(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
