"""What `torch.compile` costs and gives for a model on this machine, measured before a run."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from pellucid.engine import Engine
from pellucid.errors import BadRecipe
from pellucid.values import Batch, Loss

REPEATS = 5


def compile_report(engine: Engine, model: nn.Module, batch: Batch, loss: Loss, steps: int) -> str:
    """Return a line on when compiling pays, from a few steps of a copy with and without it.

    The kernels that are made here are kept by PyTorch and serve the run itself.

    Args:
        engine: compiles if its spec says so; else the line is empty.
        model: on the device; not changed.
        batch: one piece as the network gets it.
        loss: of the run.
        steps: of the run.

    Raises:
        BadRecipe: if the model or the machine cannot do it, with PyTorch's reason.
    """
    if not engine.spec.compile:
        return ""
    plain, compiled = copy.deepcopy(model), copy.deepcopy(model)
    before = _seconds(engine, plain, batch, loss)
    began = time.perf_counter()
    try:
        wrapped = engine.wrap(compiled)
        _step(engine, wrapped, batch, loss)
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadRecipe(
            f"engine.compile: PyTorch could not compile this model here: {reason} A CPU needs a "
            "C++ compiler (g++ or clang). Leave --compile out to train without."
        ) from None
    cost = time.perf_counter() - began
    after = _seconds(engine, wrapped, batch, loss)
    line = f"compile: {cost:.0f} s; a step takes {1e3 * after:.1f} ms instead of {1e3 * before:.1f}"
    if after >= before:
        return f"{line}: on this machine it does not pay, whatever the length"
    even = round(cost / (before - after))
    pays = "pays" if even < steps else "does not pay"
    return f"{line}: even after {even:,} steps; in this run of {steps:,} it {pays}"


def _seconds(engine: Engine, model: nn.Module, batch: Batch, loss: Loss) -> float:
    return min(_timed(lambda: _step(engine, model, batch, loss)) for _ in range(REPEATS))


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _step(engine: Engine, model: nn.Module, batch: Batch, loss: Loss) -> None:
    with engine.forward():
        value = loss(model(batch.images).float(), batch.targets)
    value.backward()
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
