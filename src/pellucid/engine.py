"""Where the arithmetic happens: device, precision, memory layout, gradient clipping.

An engine is always there; on a CPU in fp32 its methods are the plain calls of PyTorch.
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import Annotated, Literal, cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pellucid.errors import BadRecipe
from pellucid.values import Batch

LAYOUT = torch.channels_last
"""Memory layout of images and weights. On a CPU it makes the networks here 1.4 to 1.9 times as
fast in fp32, with a fused optimizer and pooling before ReLU (`benchmarks/`). It changes where a
number lies, not what a file holds: checkpoints are written in the usual order."""


class EngineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a recipe asks for its device.

    Args:
        device: `auto` takes a GPU if there is one; or `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: of the forward pass.
        threads: CPU threads; 0 leaves the choice to PyTorch.
        deterministic: on a GPU, only kernels that give the same bits each time. A CPU always
            does.
    """

    device: str = "auto"
    precision: Literal["fp32"] = "fp32"
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    deterministic: bool = False


class Engine:
    """The device that a run computes on.

    Attributes:
        device: where the model and its batches are.
        rank: the number of this process among those that train together.
    """

    def __init__(self, device: torch.device, spec: EngineSpec) -> None:
        self.device = device
        self.spec = spec
        self.rank = 0

    @classmethod
    def start(cls, spec: EngineSpec) -> Engine:
        """Choose the device and set the number of threads and the level of determinism.

        Raises:
            BadRecipe: if the device is unknown or not there.
        """
        device = choose_device(spec.device)
        if spec.threads:
            torch.set_num_threads(spec.threads)
        if spec.deterministic and device.type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(spec.deterministic)
        return cls(device, spec)

    @property
    def level(self) -> str:
        """How closely a run can be repeated here: `bitwise` or `seeded`."""
        exact = self.device.type == "cpu" or self.spec.deterministic
        return "bitwise" if exact else "seeded"

    @property
    def name(self) -> str:
        """The device in words."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        threads = torch.get_num_threads()
        return f"{self.device} ({threads} thread{'s' * (threads != 1)})"

    def wrap(self, model: nn.Module) -> nn.Module:
        """Put `model` on the device, in place, and return it ready for training.

        Raises:
            BadRecipe: if it holds a layer that this machine's kernels do not compute safely.
        """
        if self.device.type == "cpu":
            _refuse_unsafe(model)
        model.to(self.device)
        return cast(nn.Module, model.to(memory_format=LAYOUT))  # type: ignore[call-overload]

    def place(self, batch: Batch) -> Batch:
        """Return `batch` with its images, still uint8, and targets on the device."""
        return batch.to(self.device)

    def zero(self) -> Tensor:
        """Return 0 as a 0-d tensor on the device."""
        return torch.zeros((), device=self.device)

    def forward(self, model: nn.Module, *, sync: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of a forward pass; `sync` on the last piece of a step.

        The seam for lower precision and for several processes: in fp32 and one process there
        is nothing to do.
        """
        del model, sync
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to that of each parameter."""
        loss.backward()

    def clip(self, model: nn.Module, max_norm: float) -> Tensor:
        """Return the norm of the gradient, after scaling it down to at most `max_norm`.

        The norm is that before scaling. It is measured also where nothing is clipped.
        """
        parameters = [p for p in model.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        if math.isfinite(max_norm):
            clip_grads_with_norm_(parameters, max_norm, norm)
        return norm

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take one step."""
        optimizer.step()


def _refuse_unsafe(model: nn.Module) -> None:
    """Raise for a layer whose backward kernel writes past its memory on a CPU.

    In channels-last layout the weight gradient of a 1x1 convolution with a stride, of fewer
    input channels than a vector holds (16 with AVX-512), corrupts the heap: uxlfoundation/oneDNN
    issue 6035, seen here with torch 2.13. A crash would be the lucky outcome.
    """
    for name, layer in model.named_modules():
        if (
            isinstance(layer, nn.Conv2d)
            and layer.kernel_size == (1, 1)
            and max(layer.stride) > 1
            and layer.in_channels // layer.groups < 16
        ):
            raise BadRecipe(
                f"The layer {name} of the model is a 1x1 convolution with stride {layer.stride} "
                f"and {layer.in_channels // layer.groups} input channels; with fewer than 16 its "
                "gradient corrupts memory on this kind of CPU (oneDNN issue 6035). Put an "
                "AvgPool2d before it and give it stride 1, or train on a GPU."
            )


def choose_device(name: str) -> torch.device:
    """Return the device that `name` asks for.

    Raises:
        BadRecipe: if it is unknown or not there.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    there = ["cpu"]
    there += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return torch.device(there[1] if len(there) > 1 else "cpu")
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in there:
        raise BadRecipe(
            f"engine.device must be one of auto, {', '.join(there)} on this machine. "
            f'Got "{name}". Leave it out to take the best one there is.'
        )
    return torch.device(wanted)
