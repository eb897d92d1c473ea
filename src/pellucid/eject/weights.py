"""What a script says of the weights: which are trained, how, and what is averaged."""

from __future__ import annotations

from typing import Any

from pellucid.models.whitening import Whitening
from pellucid.recipe import EMASpec, Recipe


def average(spec: EMASpec) -> list[str]:
    """Return the arguments of `EMA`."""
    given = ["model", "EMA_DECAY"]
    if spec.every != 1:
        given.append("every=EMA_EVERY")
    if spec.pull:
        given.append("pull=True")
    if spec.growth:
        given.append("grown=Grown(steps, EMA_GROWTH)")
    return given


def trained(recipe: Recipe) -> str:
    """Return the expression for the parameters that are trained."""
    model: Any = recipe.model
    some = isinstance(recipe.init, Whitening) or not getattr(model, "norm_scale", True)
    return "trained" if some else "model.parameters()"


def groups(recipe: Recipe) -> list[str]:
    """Return the lines that make the groups of parameters for the optimizer."""
    spec: Any = recipe.optimizer
    names = trained(recipe)
    lines, made, apart = [], [], ""
    if names == "trained":
        lines.append("trained = [p for p in model.parameters() if p.requires_grad]")
    if spec.norm_bias_lr != 1:
        apart = " and id(p) not in apart"
        lines += [
            "norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]",
            "shifts = [norm.bias for norm in norms]  # with a rate of their own",
            "apart = {id(p) for p in shifts}",
        ]
        made.append('{"params": shifts, "weight_decay": 0.0, "scale": NORM_BIAS_LR}')
    if spec.weight_decay or spec.l1:
        decay = "WEIGHT_DECAY" if spec.weight_decay else "0.0"
        lines += [
            f"weights = [p for p in {names} if p.ndim > 1]",
            "# Biases and the scales of normalisation are not pulled to 0.",
            f"others = [p for p in {names} if p.ndim <= 1{apart}]",
        ]
        made.append(f'{{"params": weights, "weight_decay": {decay}}}')
        made.append('{"params": others, "weight_decay": 0.0}')
    elif apart:
        lines.append(f"others = [p for p in {names} if id(p) not in apart]")
        made.append('{"params": others, "weight_decay": 0.0}')
    else:
        everything = names if names == "trained" else f"list({names})"
        made.append(f'{{"params": {everything}, "weight_decay": 0.0}}')
    if len(made) == 1:
        return [*lines, f"groups = [{made[0]}]"]
    return [*lines, "groups = [", *(f"    {group}," for group in made), "]"]
