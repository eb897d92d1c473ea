"""Where the arithmetic happens: device, precision, memory layout, processes, gradient clipping.

An engine is always there; on a CPU in fp32 its methods are the plain calls of PyTorch.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_

from pellucid.distributed.group import Alone, Processes
from pellucid.distributed.place import Place
from pellucid.enginespec import EngineSpec as EngineSpec
from pellucid.enginespec import Precision as Precision
from pellucid.errors import BadRecipe
from pellucid.memory import Numbers, keep_freed_memory
from pellucid.values import Batch

LAYOUT = torch.channels_last
"""Memory layout of images and weights. On a CPU it makes the networks here 1.4 to 1.9 times as
fast in fp32, with a fused optimizer and pooling before ReLU (`benchmarks/`). It changes where a
number lies, not what a file holds: checkpoints are written in the usual order."""


TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


ALONE = Alone()


class Engine:
    """The device that a run computes on.

    Attributes:
        device: where the model and its batches are.
        precision: of the forward pass. It may be `fp32` where the recipe asked for less: see
            `precision.py`.
        processes: those that train together; usually this one alone.
        scaler: of the loss in fp16, where small gradients would become 0; else it does nothing.
    """

    def __init__(
        self, device: torch.device, spec: EngineSpec, processes: Processes = ALONE
    ) -> None:
        self.device = device
        self.spec = spec
        self.processes = processes
        self.precision: Precision = spec.precision
        self.scaler = torch.amp.GradScaler(device.type, enabled=spec.precision == "fp16")
        self._numbers = Numbers(device)

    @classmethod
    def start(cls, spec: EngineSpec, processes: Processes = ALONE) -> Engine:
        """Choose the device and set the number of threads and the level of determinism.

        Raises:
            BadRecipe: if the device is unknown or not there, or cannot do the precision.
        """
        device = own_device(spec.device, processes.place)
        _check_precision(device, spec.precision)
        if device.type == "cpu":
            keep_freed_memory()
        if spec.threads:
            torch.set_num_threads(spec.threads)
        if spec.deterministic and device.type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # The same switch as `use_deterministic_algorithms`, which loads the compiler for a second.
        torch.set_deterministic_debug_mode("error" if spec.deterministic else "default")
        return cls(device, spec, processes)

    @property
    def rank(self) -> int:
        """The number of this process among those that train together."""
        return self.processes.rank

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

    def put(self, model: nn.Module) -> nn.Module:
        """Put `model` on the device, in place, in the memory layout that is used; return it.

        Raises:
            BadRecipe: if it holds a layer that this machine's kernels do not compute safely.
        """
        if self.device.type == "cpu":
            _refuse_unsafe(model)
        model.to(self.device)
        return cast(nn.Module, model.to(memory_format=LAYOUT))  # type: ignore[call-overload]

    def wrap(self, model: nn.Module) -> nn.Module:
        """Put `model` on the device, in place, and return what training calls."""
        model = self.put(model)
        return cast(nn.Module, torch.compile(model)) if self.spec.compile else model

    def place(self, batch: Batch) -> Batch:
        """Return `batch` with its images, still uint8, and targets on the device."""
        return batch.to(self.device)

    def zero(self) -> Tensor:
        """Return 0 as a 0-d tensor on the device."""
        return torch.zeros((), device=self.device)

    def forward(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a forward pass.

        In lower precision PyTorch chooses the type of each operation: products in bf16 or fp16,
        sums and norms in fp32. The weights stay in fp32.
        """
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, TYPES[self.precision])

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to that of each parameter."""
        self.scaler.scale(loss).backward()

    def sum(self, model: nn.Module, total: Tensor, step: int) -> Tensor:
        """Add up over all processes, after the last piece of a step; return the sum of `total`.

        The gradients of `model` are added up in place. Each piece's loss is weighted by its share
        of the whole batch, so their sum is the gradient of that, however it was cut.
        """
        self.scaler.scale(total)  # makes its scale, where this process had no images yet
        return self._numbers.keep(self.processes.sum(model, total, step))

    def agree(self, decide: Callable[[], bool]) -> bool:
        """Return whether `decide` is true on any process; if it fails on one, all end."""
        return self.processes.agree(decide)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale of the loss."""
        self.scaler.unscale_(optimizer)

    def clip(self, model: nn.Module, max_norm: float, max_value: float = math.inf) -> Tensor:
        """Return the norm of the gradient; scale it down to `max_norm`, then cut each number.

        The norm is that before clipping. It is measured also where nothing is clipped.
        """
        parameters = [p for p in model.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if math.isfinite(max_norm):
            clip_grads_with_norm_(parameters, max_norm, norm)
        if math.isfinite(max_value):
            clip_grad_value_(parameters, max_value)
        return self._numbers.keep(norm)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take one step; in fp16 none if a gradient overflowed, and then the scale is halved."""
        self.scaler.step(optimizer)
        self.scaler.update()


def _check_precision(device: torch.device, precision: Precision) -> None:
    if precision == "fp16" and device.type != "cuda":
        raise BadRecipe(
            f"engine.precision fp16 needs a CUDA GPU; the device is {device}. Allowed on a CPU: "
            "fp32, bf16."
        )
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise BadRecipe(f"{torch.cuda.get_device_name(device)} has no bf16. Allowed: fp32, fp16.")


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


def own_device(name: str, place: Place | None) -> torch.device:
    """Return the device of one process: the one asked for, or of several its own GPU.

    Raises:
        BadRecipe: if it is not there, or cannot be used by several processes.
    """
    if place is None:
        return choose_device(name)
    gpus = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        choose_device(name)
        raise BadRecipe(
            f'{place.size} processes take a GPU each (engine.device "cuda") or the CPU ("cpu"). '
            f'Got "{name}".'
        )
    if gpus < place.local_size:
        raise BadRecipe(
            f"{place.local_size} processes on this machine need as many GPUs; it has {gpus}. "
            "Start fewer, or take --engine.device cpu."
        )
    torch.cuda.set_device(place.local_rank)
    return torch.device("cuda", place.local_rank)


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
