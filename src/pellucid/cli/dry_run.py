"""`pellucid train --dry-run`: the resolved recipe and the plan, without a step."""

from __future__ import annotations

import json as json_text
import sys

import torch
from torch import nn

from pellucid.assemble import Assembled, assemble
from pellucid.catalogue import to_json, to_toml, to_tree
from pellucid.engine import Engine
from pellucid.recipe import Recipe
from pellucid.sinks.console import Console


def dry_run(recipe: Recipe, engine: Engine, json: bool) -> int:
    """Print what `recipe` would do: steps, parameters, expected memory."""
    console = Console(sys.stderr)
    built = assemble(recipe, engine, console.progress)
    console.close()
    plan, splits = built.task.plan, built.splits
    facts = {
        "device": engine.name,
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "evaluate_every": plan.evaluate,
        "train": len(splits.train),
        "validation": len(splits.validation),
        "test": len(splits.test),
        "parameters": sum(p.numel() for p in built.state.model.parameters()),
        "memory_mb": round(expected_memory(recipe, built) / 1e6),
    }
    if json:
        print(f'{{"recipe": {to_json(to_tree(recipe))}, "plan": {json_text.dumps(facts)}}}')
        return 0
    print(to_toml(to_tree(recipe)))
    for note in splits.notes:
        print(f"# note: {note}")
    for name, value in facts.items():
        print(f"# {name}: {value:,}" if isinstance(value, int) else f"# {name}: {value}")
    return 0


def expected_memory(recipe: Recipe, built: Assembled) -> int:
    """Return an estimate of the bytes that training adds to PyTorch itself.

    Pixels, weights with gradient and two optimizer slots, and what the layers put out for one
    piece of a batch, forward and backward.
    """
    splits = built.splits
    images = {
        id(part.images): part.images for part in (splits.train, splits.validation, splits.test)
    }
    pixels = sum(tensor.nbytes for tensor in images.values())
    weights = sum(p.numel() * p.element_size() for p in built.state.model.parameters())
    piece = -(-recipe.batch_size // recipe.accumulate)
    return (
        pixels + 4 * weights + 2 * piece * activation_bytes(built.state.model, splits.train.shape)
    )


def activation_bytes(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the bytes that all layers of `model` put out for one image of `shape` (C, H, W)."""
    total = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor) and not list(module.children()):
            total += output.nbytes

    handles = [module.register_forward_hook(count) for module in model.modules()]
    was_training = model.training
    try:
        device = next(model.parameters()).device
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape, device=device))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return total
