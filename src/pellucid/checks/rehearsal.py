"""The memory of a run before it is started: it is tried out, and measured."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import torch

from pellucid.assemble import Assembled
from pellucid.engine import Engine
from pellucid.evaluate import BATCH, predict
from pellucid.loop import fit
from pellucid.plan import Plan
from pellucid.recipe import Recipe
from pellucid.sinks.device import MIB, process_memory
from pellucid.values import ImageSet

REHEARSED = 2
"""Steps that are taken to see their memory: the optimizer has its state after the first."""
LATER = 50e6
"""Bytes that the end of a run adds: the figures, and the library that draws them."""


def peak_memory(recipe: Recipe, built: Assembled) -> int | None:
    """Return the bytes that a process which trains `recipe` will hold at most, or None.

    It is rehearsed in this one, which must have done little else: two steps, and the evaluation
    of some images. What a layer needs on the way, and how much of what was freed is used again,
    no formula knows. `built` is trained on, so it must not be used afterwards. Compiling is left
    out, for it would take longer than all the rest.
    """
    engine = Engine.start(msgspec.structs.replace(recipe.engine, compile=False))
    task = replace(
        built.task,
        plan=Plan(REHEARSED, built.task.plan.steps_per_epoch, REHEARSED),
        probe=_some(built.task.probe),
        validation=_some(built.splits.validation),
    )
    for step in fit(built.state, task, engine):
        del step
    for part in (built.splits.validation, built.splits.test):
        predict(engine, built.state.ema.model, _some(part), task.prepare)
    peak = process_memory()["memory_peak_mib"]
    return None if peak is None else int(peak * MIB + LATER)


def _some(data: ImageSet) -> ImageSet:
    """Return as much of `data` as needs the memory of all: each size of a pass is in it."""
    count = len(data)
    return data.part(torch.arange(count if count <= 2 * BATCH else BATCH + count % BATCH))
