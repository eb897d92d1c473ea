"""Checks of the gradients at the start: they reach each weight, and stay with their own image.

They work on copies. No optimizer takes a step.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pellucid.assemble import Assembled
from pellucid.checks.check import Check, some
from pellucid.checks.preflight_start import quiet
from pellucid.engine import Engine
from pellucid.seeds import generator, reseed
from pellucid.values import Batch

ROUNDS = 3
"""Layers that start at 0, as the last scale of a residual block may, keep those before them from
having a gradient at the first step; after a step or two all must have one."""
NUDGE = 0.01
"""Length of such a trial step, all weights together."""
IMAGES = 32
"""Images whose gradient is looked at."""
ALONE = 4
"""Images among which no gradient may flow."""
LEAK = 1e-6
"""Gradient at another image's pixels, as a share of that at the own, that is taken for rounding."""
MOVE = 1e-3
"""Likewise for logits, as a share of the largest: beside other images, and in TF32."""


def gradient_norms(built: Assembled, engine: Engine) -> dict[str, float]:
    """Return the norm of the gradient of each trainable parameter after one batch.

    In training mode, by the recipe's loss and augmentation, in fp32. If some have none at first,
    the weights of the copy are moved a little along the gradient, twice at most: what starts at 0
    on purpose then lets the gradient pass.
    """
    model = copy.deepcopy(built.state.model)
    task = built.task
    task.mode(model, max(0, task.plan.steps - 1))  # nothing that thaws later is frozen any more
    batch = task.augment(engine.place(_first(built, IMAGES)), 0)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    norms = dict.fromkeys(trainable, 0.0)
    for _ in range(ROUNDS):
        reseed(task.seed, "preflight/gradients")
        loss = task.loss(model(batch.images).float(), batch.targets)
        model.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()
        norms = {name: _norm(p) for name, p in trainable.items()}
        if all(math.isfinite(n) and n > 0 for n in norms.values()) or not _nudge(model):
            break
    return norms


def gradients(norms: dict[str, float]) -> Check:
    """Check that each trainable parameter gets a finite gradient other than 0."""
    measured, advice = _judged(norms)
    return Check(
        "gradients",
        "failed" if advice else "ok",
        measured,
        f"finite and not 0 in all of {len(norms)} tensors, after one batch",
        advice,
    )


def _judged(norms: dict[str, float]) -> tuple[str, str]:
    """Return what was found, and what to do about it."""
    wild = [name for name, norm in norms.items() if not math.isfinite(norm)]
    dead = [name for name, norm in norms.items() if norm == 0]
    if wild:
        return f"not finite: {some(wild)}", (
            "Look for a division by 0, a root or logarithm of 0, or weights that are too large."
        )
    if dead or not norms:
        return f"none: {some(dead) or 'nothing is trainable'}", (
            "These weights would never change. They are not used, or cut off by detach() or "
            "no_grad(), or everything behind them is 0: weights that start at 0, units that are "
            "never active."
        )
    return f"{len(norms)} tensors, norms {min(norms.values()):.1g} to {max(norms.values()):.1g}", ""


def parameters(built: Assembled) -> Check:
    """Check that the optimizer has each trainable parameter, and say what is frozen."""
    named = dict(built.state.model.named_parameters())
    held = {id(p) for group in built.state.optimizer.param_groups for p in group["params"]}
    forgotten = [name for name, p in named.items() if p.requires_grad and id(p) not in held]
    frozen = [name for name, p in named.items() if not p.requires_grad]
    measured, advice = f"{sum(p.numel() for p in named.values()):,} in {len(named)} tensors", ""
    if frozen:
        measured += f"; frozen: {some(frozen)}"
        advice = "Frozen weights stay as they are (requires_grad is off). Good if that is meant."
    if forgotten:
        measured += f"; not in the optimizer: {some(forgotten)}"
        advice = "Make the optimizer of all parameters of this very model."
    return Check(
        "parameters",
        "failed" if forgotten else "warning" if frozen else "ok",
        measured,
        "all in the optimizer, none frozen",
        advice,
    )


def samples_apart(built: Assembled, engine: Engine) -> Check:
    """Check that the logits of an image depend on no other image of the batch.

    By gradients (d logits_i / d x_j is 0 unless i = j), and by putting black images beside the
    first one, which also shows what carries no gradient. In eval mode; in training mode BatchNorm
    mixes the images by design, which is said.
    """
    model = copy.deepcopy(built.state.model)
    batch = _first(built, ALONE)
    x = built.task.prepare(batch.images.to(engine.device))
    own, others = _reach(model.eval(), x)
    for _ in range(ROUNDS - 1):
        if own > 0:
            break
        quiet(model)  # layers that start at 0 let no gradient pass: move them a little
        model.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x).float(), batch.targets.to(engine.device))
        if loss.requires_grad:
            loss.backward()
            _nudge(model)
        own, others = _reach(model.eval(), x)
    measured, advice = f"apart, n = {len(x)}", ""
    moved = _moved(model, x)
    if not own > 0:
        measured = "no gradient reaches the image"
        advice = "The output does not depend on the image: look for detach(), and for layers of 0."
    elif not (others <= LEAK * own and moved <= MOVE):
        measured = f"mixed: gradient {others / own:.1g} of the own, logits move by {moved:.1%}"
        advice = (
            "A layer mixes the images of a batch: look for a reshape, a softmax or a mean over "
            "dimension 0, and for BatchNorm without running statistics."
        )
    elif _reach(model.train(), x)[1] > 0:
        normed = any(isinstance(layer, _BatchNorm) for layer in model.modules())
        by = "BatchNorm mixes them, by design" if normed else "they are mixed, not by BatchNorm"
        measured += f"; in training mode {by}"
    expected = "in eval mode, each image alone decides its logits"
    return Check("samples apart", "failed" if advice else "ok", measured, expected, advice)


def _reach(model: nn.Module, x: Tensor) -> tuple[float, float]:
    """Return the largest gradient of an image's logits at its own and at others' pixels."""
    x = x.detach().clone().requires_grad_()
    logits = model(x).float()
    if not logits.requires_grad:
        return 0.0, 0.0
    draws = generator(0, "preflight/apart")  # not all alike: probabilities always sum to 1
    weights = torch.randn(logits.shape[1], generator=draws).to(logits)
    own = others = 0.0
    for i, score in enumerate(logits @ weights):
        (found,) = torch.autograd.grad(score, x, retain_graph=True, allow_unused=True)
        if found is not None:
            largest = found.abs().flatten(1).amax(1)
            own = max(own, float(largest[i]))
            largest[i] = 0
            others = max(others, float(largest.max()))
    return own, others


@torch.no_grad()
def _moved(model: nn.Module, x: Tensor) -> float:
    """Return by how much other company changes the first image's logits, by their size."""
    alone = x.clone()
    alone[1:] = 0
    before, after = model(x).float(), model(alone).float()
    return float((before[0] - after[0]).abs().max() / before.abs().max().clamp(min=1e-12))


def _first(built: Assembled, count: int) -> Batch:
    """Return the first images of the first batch, `count` at most; an even number of them."""
    batch = next(iter(built.task.train.pieces(0)))
    return replace(
        batch, images=batch.images[:count], targets=batch.targets[:count],
        index=batch.index[:count], rows=batch.rows[:count],
    )  # fmt: skip


def _norm(parameter: Tensor) -> float:
    return 0.0 if parameter.grad is None else float(parameter.grad.norm())


@torch.no_grad()
def _nudge(model: nn.Module) -> bool:
    """Move the weights against their gradients by `NUDGE`; return whether there was one."""
    moving = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float(gradient.norm()) ** 2 for _, gradient in moving))
    if not (math.isfinite(norm) and norm > 0):
        return False
    for parameter, gradient in moving:
        parameter.sub_(gradient, alpha=NUDGE / norm)
    return True
