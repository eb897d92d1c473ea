"""Whether this machine computes a model rightly in bf16, and faster: asked before a run starts.

On CPUs bf16 kernels of convolutions were found that give wrong values or are many times slower
(pytorch issues 163347, 169688, 183815), depending on shapes. So each layer is run on the very
shapes of the run, forward and backward, and compared with fp32.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.engine import LAYOUT, Engine
from pellucid.seeds import generator

TOLERANCE = 0.03
"""Largest allowed error of a layer's output or gradient, as a share of its norm. Rounding to bf16
(8 bits) gives 0.002 to 0.008 here; wrong kernels give 0.1 and more."""
SLOWER = 1.1
"""bf16 is not used if its layers together take more than this times as long as in fp32."""
REPEATS = 3
"""Times that a layer is run, at most: fewer if it takes long, where the first time, which prepares
the kernel, is hardly longer than the next."""
ENOUGH = 0.2
"""Seconds after which a layer is not run again."""


@dataclass(frozen=True)
class LayerCheck:
    """One layer in bf16 beside fp32.

    Args:
        name: of the layer in the model.
        error: the largest of the errors of output and gradients, each as a share of its norm.
        fp32: seconds, forward and backward, the least of a few.
        bf16: likewise.
    """

    name: str
    error: float
    fp32: float
    bf16: float


def settle_precision(engine: Engine, model: nn.Module, images: Tensor) -> str:
    """Let `engine` use what the recipe asks for, or fp32 if bf16 fails here; return a line on it.

    Args:
        engine: its `precision` is set.
        model: on the device; not changed.
        images: one piece of a batch as the network gets it, (B, C, H, W).
    """
    if engine.precision != "bf16" or engine.device.type != "cpu":
        return f"precision: {engine.precision}"
    checks = check_layers(model, images)
    worst = max(checks, key=lambda check: check.error)
    fp32, bf16 = sum(c.fp32 for c in checks), sum(c.bf16 for c in checks)
    if worst.error > TOLERANCE:
        engine.precision = "fp32"
        return (
            f"precision: fp32. bf16 was asked for, but on this machine the layer {worst.name} "
            f"differs from fp32 by {worst.error:.1%} (allowed: {TOLERANCE:.0%})."
        )
    if bf16 > SLOWER * fp32:
        engine.precision = "fp32"
        return (
            f"precision: fp32. bf16 was asked for, but on this machine the layers of this model "
            f"take {bf16 / fp32:.1f} times as long with it."
        )
    return (
        f"precision: bf16; {len(checks)} layers differ from fp32 by at most {worst.error:.2%}, "
        f"and take {bf16 / fp32:.2f} of its time"
    )


def check_layers(model: nn.Module, images: Tensor) -> list[LayerCheck]:
    """Run each layer of `model` that computes products in bf16 and in fp32, on its own inputs."""
    model = copy.deepcopy(model).eval()
    inputs: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, given, name=name: inputs.__setitem__(name, given[0].detach())
        )
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return [_check(name, model.get_submodule(name), x) for name, x in inputs.items()]


def _check(name: str, layer: nn.Module, x: Tensor) -> LayerCheck:
    x = x.bfloat16().float()  # what is lost by rounding the input is not the kernel's fault
    like = layer(x)
    out = torch.randn(like.shape, generator=generator(0, "precision"), dtype=like.dtype)
    if like.ndim == 4:
        out = out.contiguous(memory_format=LAYOUT)
    expected, fp32 = _run(layer, x, out, lower=False)
    found, bf16 = _run(layer, x.bfloat16(), out, lower=True)
    errors = [
        ((a.float() - b).norm() / b.norm().clamp(min=1e-12)).item()
        for a, b in zip(found, expected, strict=True)
    ]
    return LayerCheck(name, max(errors), fp32, bf16)


def _run(layer: nn.Module, x: Tensor, out: Tensor, *, lower: bool) -> tuple[list[Tensor], float]:
    """Return output and gradients of `layer` at `x`, and the least time that it took."""
    least, spent = float("inf"), 0.0
    results: list[Tensor] = []
    weights = [p for p in layer.parameters() if p.requires_grad]  # what is frozen gets none
    for _ in range(REPEATS):
        given = x.detach().requires_grad_()
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            y = layer(given)
        gradients = torch.autograd.grad(y, [given, *weights], out.to(y.dtype))
        took = time.perf_counter() - began
        least, spent = min(least, took), spent + took
        results = [y.detach(), *gradients]
        if spent > ENOUGH:
            break
    return results, least
