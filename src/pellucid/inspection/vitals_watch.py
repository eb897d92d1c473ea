"""What goes through the layers of a model, and which of its units are of use, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SATURATED = 0.02
"""A sigmoid or tanh is saturated within this share of its range from either end. The slope of a
sigmoid is below 0.02 there, against 0.25 in the middle."""

CALLS: dict[str, list[Any]] = {
    "relu": [F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_],
    "sigmoid": [F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_],
    "tanh": [F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_],
}
"""The ways to call an activation; the modules of `torch.nn` use them too."""

KINDS = {call: kind for kind, calls in CALLS.items() for call in calls}


class Watch(TorchFunctionMode):
    """Notes what goes through the layers with weights, and what comes out of activations.

    Activations are seen as calls, not as modules: so `F.relu` counts as `nn.ReLU` does, and one
    module that is used in three places gives three entries.

    Args:
        model: whose next forward pass is watched, while this is entered.

    Attributes:
        input: of the first layer: least, largest, mean and deviation; None before it ran.
        layers: mean and deviation of what each layer with weights gives, in order.
        activations: for each nonlinearity the layer before, its kind, and the share of its units
            that are of no use.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.input: dict[str, Tensor] | None = None
        self.layers: dict[str, dict[str, Tensor]] = {}
        self.activations: list[dict[str, Any]] = []
        self._last = ""
        owners = {name: part for name, part in model.named_modules() if own_parameters(part)}
        self._hooks = [
            part.register_forward_hook(self._noting(name)) for name, part in owners.items()
        ]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        kind = KINDS.get(func)
        if kind and isinstance(out, Tensor) and out.dim() > 1:
            self.activations.append({"after": self._last, "kind": kind, **_units(kind, out)})
        return out

    def _noting(self, name: str) -> Callable[..., None]:
        def note(part: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            if self.input is None and given and isinstance(given[0], Tensor):
                x = given[0].detach().float()
                self.input = {"min": x.min(), "max": x.max(), **_moments(x)}
            self.layers[name] = _moments(out) if isinstance(out, Tensor) else {}
            self._last = name

        return note


def own_parameters(part: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are a layer's own, not those of layers within it, by name."""
    return dict(part.named_parameters(recurse=False))


def _units(kind: str, out: Tensor) -> dict[str, Any]:
    """Return the share of units that are of no use on this sample; a channel is one unit."""
    out = out.detach().float()
    unit = 1 if out.dim() != 3 else 2  # (B, tokens, units)
    if kind == "relu":
        dead = out.amax([d for d in range(out.dim()) if d != unit]) <= 0
        zeros = (out <= 0).float().mean()
        return {"units": out.shape[unit], "dead": dead.float().mean(), "zeros": zeros}
    low = -1.0 if kind == "tanh" else 0.0
    edge = SATURATED * (1 - low)
    ends = (out >= 1 - edge) | (out <= low + edge)
    return {"units": out.shape[unit], "saturated": ends.float().mean()}


def _moments(x: Tensor) -> dict[str, Tensor]:
    x = x.detach().float()
    return {"mean": x.mean(), "std": x.std(correction=0)}
