"""Every operation of a forward pass, in order, each with the layer that called it.

Operations are seen as calls of PyTorch functions, not as modules. So `F.relu` counts as `nn.ReLU`
does, a module that is used three times is three operations, and it works on any `nn.Module`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pellucid.inspection.calls import SILENT
from pellucid.seeds import reseed


@dataclass(frozen=True, eq=False)
class Op:
    """One operation.

    Args:
        index: its number in the forward pass, from 0.
        layer: path of the module whose code called it; empty for the model itself.
        module: that module.
        call: the function's name.
        args: as it was called. Of tensors that a later operation changes in place, take `out`.
        kwargs: likewise.
        sources: for each tensor in `args` that another operation made, that one's index; -1 is
            the image.
        out: what it returned, before anything changed it; the first, if there were several.
    """

    index: int
    layer: str
    module: nn.Module
    call: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    sources: tuple[int, ...]
    out: Tensor

    @property
    def name(self) -> str:
        """What a person calls it: the layer, or the function where the model calls it itself."""
        return self.layer or self.call.strip("_")


class Broken(Exception):
    """An operation of the forward pass failed.

    Attributes:
        layer: the module whose code called it.
        module: that module.
        call: the function.
        args: as it was called.
        before: the operations that worked.
        reason: what PyTorch said.
    """

    def __init__(
        self, layer: str, module: nn.Module, call: str, given: Sequence[Any], before: list[Op],
        reason: str,
    ) -> None:  # fmt: skip
        super().__init__(f"{layer or 'the model'}, {call}: {reason}")
        self.layer = layer
        self.module = module
        self.call = call
        self.given = tuple(given)
        self.before = before
        self.reason = reason


Seen = Callable[[Op], Tensor | None]
"""Called after each operation. A tensor that it returns takes the place of the output."""


class Tracer(TorchFunctionMode):
    """Tells `seen` of each operation of `model` while it is entered.

    Args:
        model: whose forward pass is looked at.
        image: the tensor that it will be called with.
        seen: called after each operation.
        keep: hold on to all values, so that `Op.sources` is known; else it is empty.
    """

    def __init__(self, model: nn.Module, image: Tensor, seen: Seen, *, keep: bool = False) -> None:
        super().__init__()
        self.seen = seen
        self.count = 0
        self.keep = keep
        self._made: dict[int, tuple[int, Tensor]] = {id(image): (-1, image)}
        self._model = model
        self._stack: list[tuple[str, nn.Module]] = [("", model)]
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        for name, part in self._model.named_modules():
            self._hooks.append(part.register_forward_pre_hook(self._entering(name)))
            self._hooks.append(part.register_forward_hook(self._leaving))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._made.clear()

    @property
    def here(self) -> tuple[str, nn.Module]:
        """The module whose code runs now, by path."""
        return self._stack[-1]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        call = getattr(func, "__name__", "?")
        made = self._sources(args) if self.keep else ()
        try:
            out = func(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).strip().split("\n")[0]
            raise Broken(*self.here, call, args, [], reason) from error
        first = out[0] if isinstance(out, tuple | list) and out else out
        if call in SILENT or not isinstance(first, Tensor) or not first.dim():
            return out
        index, self.count = self.count, self.count + 1
        layer, module = self.here
        other = self.seen(Op(index, layer, module, call, args, kwargs, made, first))
        if other is not None:
            out = other
        if self.keep:
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, Tensor):
                    self._made[id(tensor)] = (index, tensor)
        return out

    def _sources(self, args: Sequence[Any]) -> tuple[int, ...]:
        flat: list[Any] = []
        for arg in args:
            flat.extend(arg if isinstance(arg, tuple | list) else [arg])
        known = [self._made.get(id(arg)) for arg in flat if isinstance(arg, Tensor)]
        return tuple(entry[0] for entry in known if entry)

    def _entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def enter(part: nn.Module, given: Any) -> None:
            self._stack.append((name, part))

        return enter

    def _leaving(self, part: nn.Module, given: Any, out: Any) -> None:
        self._stack.pop()


def trace(model: nn.Module, images: Tensor) -> list[Op]:
    """Return all operations of `model` on `images`, with copies of what each returned.

    Meant for one image: everything is kept.

    Args:
        model: in eval mode, as `looking` leaves it.
        images: (B, C, H, W), as the model takes them.

    Raises:
        Broken: if an operation fails; it knows the operations before.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten())
    >>> [(op.name, op.call) for op in trace(net, torch.zeros(1, 1, 4, 4))]
    [('0', 'conv2d'), ('1', 'relu'), ('2', 'flatten')]
    """
    ops: list[Op] = []

    def note(op: Op) -> None:
        ops.append(_copied(op))

    try:
        with Tracer(model, images, note, keep=True):
            model(images)
    except Broken as broken:
        broken.before = ops
        raise
    return ops


def _copied(op: Op) -> Op:
    """Return `op` with a copy of its output, which a later operation may change in place."""
    return Op(
        op.index, op.layer, op.module, op.call, op.args, op.kwargs, op.sources,
        op.out.detach().clone(),
    )  # fmt: skip


def changed(model: nn.Module, images: Tensor, index: int, change: Callable[[Tensor], Tensor]) -> (
    Tensor
):  # fmt: skip
    """Return the model's output when operation `index` hands on `change` of its output."""

    def seen(op: Op) -> Tensor | None:
        return change(op.out) if op.index == index else None

    with Tracer(model, images, seen):
        out: Tensor = model(images)
    return out


@contextlib.contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """Put `model` in eval mode while inside; afterwards nothing has changed.

    Modes of all layers, buffers, gradients and random streams are as they were, whatever the
    model does in eval mode.
    """
    modes = {part: part.training for part in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = [(p, p.grad) for p in model.parameters()]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        reseed(0, "look")
        try:
            model.eval()
            yield
        finally:
            for part, training in modes.items():
                part.training = training
            for parameter, gradient in gradients:
                parameter.grad = gradient
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
