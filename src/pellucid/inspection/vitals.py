"""The vital signs of a network: weights, gradients, units and outputs on a fixed sample.

Taken between two steps, they say what curves cannot: which layer gets no gradient, which units
are dead, whether weights move at all. They leave no trace in the run: no `.grad` is touched,
modes, buffers and random streams are put back, hooks are taken off.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from pellucid.inspection.vitals_watch import Watch, own_parameters
from pellucid.seeds import reseed
from pellucid.values import ImageSet, Loss

Row = dict[str, Any]

SAMPLE = 128
"""Images that vital signs are taken on, at most."""


def sample(data: ImageSet, count: int = SAMPLE) -> ImageSet:
    """Return at most `count` images of `data`, evenly spread over it."""
    count = min(count, len(data))
    return data.part(torch.arange(count) * len(data) // max(count, 1))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters by name: what later vital signs are compared with."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def vitals(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    step: int,
    loss: Loss = F.cross_entropy,
    start: Mapping[str, Tensor] | None = None,
) -> Row:
    """Return the vital signs of `model` on a fixed sample, as plain values for JSON.

    The forward pass is in eval mode and the gradient is that of `loss`, fresh, by
    `torch.autograd.grad`. Change is measured from the start of the run, not from the last look:
    so a resumed run, which can rebuild its start from the seed, writes the same row. A number
    that is not finite is None.

    What it costs: one forward and backward pass, two forward passes of half the images, a copy
    of the buffers, and a pass over all weights and activations.

    Args:
        model: the bare network, as it is between two steps: the modes of its layers and what is
            left in `.grad` are looked at before anything is changed.
        images: float (B, C, H, W), prepared as for evaluation, on the model's device.
        targets: int64 (B,).
        step: optimizer steps done.
        loss: (logits, targets) -> 0-d loss, as it is trained with.
        start: the weights at step 0, of `weights_of`; without it nothing is known of change.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> row = vitals(net, torch.zeros(8, 1, 2, 2), torch.zeros(8).long(), step=0)
    >>> [layer["name"] for layer in row["layers"]], row["activations"][0]["units"]
    (['1', '3'], 3)
    """
    resting = [name for name, part in model.named_modules() if _by_mode(part) and not part.training]
    leftover = _norm([p.grad for p in model.parameters() if p.grad is not None])
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with _untouched(model, step, images.device):
        model.eval()
        with Watch(model) as watch, torch.enable_grad():
            logits = model(images)
            objective = loss(logits, targets)
        gradients = _gradients(objective, trained)
        half = max(1, len(images) // 2)
        with torch.no_grad():
            once, again = model(images[:half]), model(images[:half])
    with torch.no_grad():
        row = {
            "kind": "vitals",
            "step": step,
            "n": len(images),
            **_outputs(logits.detach(), targets),
            "objective": objective.detach(),
            "repeat": _difference(once, again),
            "mixing": _difference(once, logits[:half]),
            "input": watch.input,
            "leftover": leftover,
            "resting": resting,
            "grad_norm": _norm([g for g in gradients.values() if g is not None]),
            "weights": _norm(list(model.parameters())),
            "change": _change(dict(model.named_parameters()), start),
            "layers": _layers(model, watch, gradients, start),
            "activations": watch.activations,
        }
    plain: Row = _plain(row)
    return plain


@contextlib.contextmanager
def _untouched(model: nn.Module, step: int, device: torch.device) -> Iterator[None]:
    """Put modes, buffers and random streams back at the end.

    A sound model changes none of these in eval mode; one that is to be diagnosed may.
    """
    modes = {part: part.training for part in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        reseed(0, "vitals", step)
        try:
            yield
        finally:
            for part, training in modes.items():
                part.training = training
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def _outputs(logits: Tensor, targets: Tensor) -> Row:
    """Return what the outputs (B, K) say: loss, accuracy, and how they spread over the classes."""
    mean = logits.softmax(1).mean(0)
    said = logits.argmax(1)
    sums = logits.sum(1)
    shares = bool(((logits >= 0) & (logits <= 1)).all() and (sums - 1).abs().max() < 1e-3)
    return {
        "loss": F.cross_entropy(logits, targets),
        "chance": math.log(logits.shape[1]),
        "accuracy": (said == targets).float().mean(),
        "entropy": -(mean * mean.clamp_min(1e-30).log()).sum(),
        "top_share": torch.bincount(said, minlength=logits.shape[1]).max() / len(said),
        "probabilities": shares,
    }


def _gradients(objective: Tensor, trained: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    if not trained or not objective.requires_grad:
        return {}
    found = torch.autograd.grad(objective, list(trained.values()), allow_unused=True)
    return dict(zip(trained, found, strict=True))


def _layers(
    model: nn.Module,
    watch: Watch,
    gradients: Mapping[str, Tensor | None],
    start: Mapping[str, Tensor] | None,
) -> list[Row]:
    """Return a row for each layer that owns weights, in the order of the forward pass."""
    owners = {name: part for name, part in model.named_modules() if own_parameters(part)}
    order = [*watch.layers, *(name for name in owners if name not in watch.layers)]
    rows = []
    for name in order:
        prefix = f"{name}." if name else ""
        mine = {prefix + key: p for key, p in own_parameters(owners[name]).items()}
        found = [g for key in mine if (g := gradients.get(key)) is not None]
        rows.append(
            {
                "name": name,
                "kind": type(owners[name]).__name__,
                "matrix": max(p.dim() for p in mine.values()) > 1,
                "used": name in watch.layers,
                "trained": any(p.requires_grad for p in mine.values()),
                "weights": _norm(list(mine.values())),
                "grad": _norm(found) if found else None,
                "change": _change(mine, start),
                **watch.layers.get(name, {"mean": None, "std": None}),
            }
        )
    return rows


def _by_mode(part: nn.Module) -> bool:
    """Return whether a layer does another thing in training than in evaluation."""
    return (isinstance(part, _DropoutNd) and part.p > 0) or isinstance(part, _NormBase)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(t.detach().float()) for t in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def _change(now: Mapping[str, Tensor], start: Mapping[str, Tensor] | None) -> Tensor | None:
    """Return |w - w0| / |w0|; where the start is all zero, of the weights as they are now."""
    if start is None:
        return None
    moved = _norm([p - start[name] for name, p in now.items()])
    before = _norm([start[name] for name in now])
    return moved / (before if before > 0 else _norm(list(now.values())).clamp_min(1e-30))


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """Return the largest difference of two outputs, relative to the largest of them."""
    largest = torch.maximum(a.abs().max(), b.abs().max()).clamp_min(1e-12)
    difference: Tensor = (a - b).abs().max() / largest
    return difference


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
