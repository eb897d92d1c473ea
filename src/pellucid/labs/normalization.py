"""Normalisation layers: over which numbers each takes mean and variance, and what it remembers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = {"BatchNorm": (0, 2, 3), "LayerNorm": (1, 2, 3), "InstanceNorm": (2, 3)}
"""Over which axes of (N, C, H, W) the mean is taken; GroupNorm: over parts of the channels."""
EPS = 1e-5


@lab
def run(
    *,
    batch: Annotated[int, ranged("images in the batch", 2, 64)] = 8,
    groups: Annotated[int, ranged("of the 6 channels, for GroupNorm: 1, 2, 3 or 6", 1, 6)] = 3,
    shift: Annotated[float, ranged("mean of the activations", -10, 10)] = 3.0,
    spread: Annotated[float, ranged("their deviation", 0.5, 10)] = 2.0,
    seed: Annotated[int, ranged("of the activations", 0, 10**6)] = 0,
) -> LabResult:
    """Normalise by hand and as PyTorch does, in training and in evaluation."""
    groups = max(g for g in (1, 2, 3, 6) if g <= groups)
    draws = generator(seed, "lab")
    x = shift + spread * torch.randn(batch, 6, 5, 5, generator=draws, dtype=torch.float64)
    notes = torch.tensor([[1.0, 2, 3], [2, 4, 6], [3, 6, 9]], dtype=torch.float64)
    normal = normalise(notes, (0,))
    running = remembered(x)
    text = f"""
        All normalisation layers compute the same, over other numbers each:

            y = gamma (x - mean) / sqrt(variance + eps) + beta      eps = 1e-5

        BatchNorm takes mean and variance of a channel over all images of the batch and all places;
        LayerNorm of an image over all channels and places; InstanceNorm of a channel of an image;
        GroupNorm of a group of channels of an image: here 6 in {groups}. gamma and beta begin as 1
        and 0 and are learned.

        A batch of three rows: (1, 2, 3), (2, 4, 6), (3, 6, 9). The column means are 2, 4, 6, the
        variances 2/3, 8/3, 6. BatchNorm gives each column {_words(normal[:, 0])}: mean 0,
        variance 1.

        In evaluation there may be no batch. So BatchNorm remembers, at each training step:

            running = 0.9 running + 0.1 batch        (momentum 0.1 is the share of the new)

        and in evaluation normalises with that, for one image as for many. It normalises with the
        biased variance (divided by n) and remembers the unbiased one (n - 1). Here the mean of
        channel 0 is {float(x[:, 0].mean()):.4f}; after one step from 0 the running mean is {
        float(running[0][0]):.4f}. The other three compute the same in training and evaluation.

        A weight before BatchNorm can be scaled without any effect: its gradient is at a right angle
        to it. And its bias is taken away again: leave it out.
    """
    layers = {
        "BatchNorm": nn.BatchNorm2d(6, dtype=torch.float64),
        "LayerNorm": nn.LayerNorm([6, 5, 5], dtype=torch.float64),
        f"GroupNorm, {groups}": nn.GroupNorm(groups, 6, dtype=torch.float64),
        "InstanceNorm": nn.InstanceNorm2d(6, dtype=torch.float64),
    }
    ours = {
        "BatchNorm": normalise(x, AXES["BatchNorm"]),
        "LayerNorm": normalise(x, AXES["LayerNorm"]),
        f"GroupNorm, {groups}": grouped(x, groups),
        "InstanceNorm": normalise(x, AXES["InstanceNorm"]),
    }
    same = {name: _same(layer, x) for name, layer in layers.items()}
    rows = [
        (name, x.numel() // n, sum(p.numel() for p in layers[name].parameters()),
         len(list(layers[name].buffers())) > 0, same[name])
        for name, n in zip(ours, (6, batch, batch * groups, batch * 6), strict=True)
    ]  # fmt: skip
    head = ("layer", "numbers per mean", "to learn", "remembers", "train = eval")
    claims = [
        *(agrees(f"{name}: by hand as in PyTorch", ours[name], _fresh(layers[name])(x), 1e-10)
          for name in ours),
        *_notes(normal), *_memory(x, running), *_modes(same, layers["BatchNorm"]),
        *_before(), *_special(x),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, x, ours), [Table(head, rows, f"(N, C, H, W) = {(*x.shape,)}")],
        {"running mean": running[0].tolist(), "running variance": running[1].tolist()},
    )  # fmt: skip


def normalise(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return `x` less its mean over `axes`, divided by its deviation (biased) over them."""
    mean = x.mean(axes, keepdim=True)
    variance = ((x - mean) ** 2).mean(axes, keepdim=True)
    return (x - mean) / (variance + EPS).sqrt()


def grouped(x: Tensor, groups: int) -> Tensor:
    """Return `x` (N, C, H, W), normalised over groups of neighbouring channels."""
    return normalise(x.view(x.shape[0], groups, -1), (2,)).view(x.shape)


def remembered(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the running mean and variance of BatchNorm after one step, from 0 and 1."""
    mean, unbiased = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=1)
    return 0.1 * mean, 0.9 + 0.1 * unbiased


def _words(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values.tolist()) + ")"


def _fresh(layer: nn.Module) -> nn.Module:
    """Return the layer in training mode, with nothing remembered."""
    if isinstance(layer, nn.BatchNorm2d):
        layer.reset_running_stats()
    return layer.train()


def _same(layer: nn.Module, x: Tensor) -> bool:
    trained = _fresh(layer)(x)
    return bool(torch.allclose(trained, layer.eval()(x)))


def _notes(normal: Tensor) -> list[Claim]:
    return [
        at_most("The batch of 3x3: column means become 0", normal.mean(0).abs().max(), 1e-12),
        at_most("and the biased variances 1, up to eps",
                (normal.var(0, correction=0) - 1).abs().max(), 2e-5),
        equals("Its first element: -1 / sqrt(2/3 + eps)", normal[0, 0], -1.224736, 1e-6),
    ]  # fmt: skip


def _memory(x: Tensor, running: tuple[Tensor, Tensor]) -> list[Claim]:
    layer = nn.BatchNorm2d(6, dtype=torch.float64)
    layer(x)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    one = x[:1]
    by_hand = (one - layer.running_mean[:, None, None]) / (
        layer.running_var[:, None, None] + EPS
    ).sqrt()
    alone = layer.eval()(one)
    return [
        agrees("Running mean: 0.9 old + 0.1 batch", running[0], layer.running_mean, 1e-12, "T3.9"),
        agrees("Running variance: with the unbiased one", running[1], layer.running_var, 1e-12,
               "T3.9"),
        agrees("Evaluation uses what was remembered", by_hand, alone, 1e-12, "T3.10"),
        agrees("so an image is judged the same alone and in a batch", layer(x)[:1], alone, 1e-12,
               "T3.10"),
    ]  # fmt: skip


def _modes(same: dict[str, bool], batch_norm: nn.Module) -> list[Claim]:
    return [
        is_true("Only BatchNorm computes something else in evaluation",
                [name for name, alike in same.items() if not alike] == ["BatchNorm"], "T3.21"),
        is_true("InstanceNorm does so too if it is told to track",
                not _same(nn.InstanceNorm2d(6, track_running_stats=True, dtype=torch.float64),
                          3 + torch.arange(300.0).double().view(2, 6, 5, 5)), "T3.21"),
        is_true("BatchNorm refuses to train on one value per channel", _refuses(batch_norm),
                "T3.10"),
    ]  # fmt: skip


def _refuses(layer: nn.Module) -> bool:
    try:
        layer.train()(torch.zeros(1, 6, 1, 1, dtype=torch.float64))
    except ValueError:
        return True
    return False


def _before() -> list[Claim]:
    """Return what BatchNorm does to weights and bias of a convolution before it."""
    draws = generator(1, "lab")
    x = torch.randn(4, 3, 8, 8, generator=draws, dtype=torch.float64)
    w = torch.randn(5, 3, 3, 3, generator=draws, dtype=torch.float64).requires_grad_()
    b = torch.randn(5, generator=draws, dtype=torch.float64).requires_grad_()
    out = normalise(F.conv2d(x, w, b), (0, 2, 3))
    target = torch.randn(out.shape, generator=draws, dtype=torch.float64)
    by_w, by_b = torch.autograd.grad((out * target).sum(), (w, b))
    angle = (by_w * w).flatten(1).sum(1) / (by_w.flatten(1).norm(dim=1) * w.flatten(1).norm(dim=1))
    scaled = normalise(F.conv2d(x, 3 * w), (0, 2, 3))
    return [
        at_most("The gradient of a filter before BatchNorm is at a right angle to it: cosine",
                angle.abs().max(), 1e-4),
        at_most("Three times the filter and no bias: change of the output",
                (scaled - out).abs().max(), 1e-4, "T3.7"),
        at_most("The bias gets no gradient", by_b.abs().max() / by_w.abs().max(), 1e-9, "T3.7"),
    ]  # fmt: skip


def _special(x: Tensor) -> list[Claim]:
    layer = nn.BatchNorm2d(6, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.fill_(2)
        layer.bias.fill_(-1)
    return [
        agrees("GroupNorm of one group is LayerNorm", grouped(x, 1),
               normalise(x, AXES["LayerNorm"]), 1e-9, "T3.11"),
        agrees("of as many groups as channels it is InstanceNorm", grouped(x, 6),
               normalise(x, AXES["InstanceNorm"]), 1e-9),
        agrees("gamma 2, beta -1: twice the normalised value, less 1",
               2 * normalise(x, AXES["BatchNorm"]) - 1, layer(x), 1e-10),
        at_least("LayerNorm has a gamma for each element, BatchNorm for each channel: ratio",
                 nn.LayerNorm([6, 5, 5]).weight.numel() / layer.weight.numel(), 25, "T3.11"),
    ]  # fmt: skip


def _draw(x: Tensor, ours: dict[str, Tensor]) -> Figure:
    from pellucid.labs.drawing import BLUE, COLOURS, RED, finish, sheet

    figure, axes = sheet("Same number: same mean (above). What becomes of the values (below)", 4,
                         2, size=(13, 6.4))  # fmt: skip
    images = min(4, x.shape[0])
    groups = int(next(name for name in ours if name.startswith("Group")).split()[-1])
    for axis, lower, name in zip(axes[:4], axes[4:], ours, strict=True):
        kinds = torch.zeros(images, 6)
        for n in range(images):
            for c in range(6):
                place = {"Batch": c, "Layer": n, "Group": n * groups + c * groups // 6}
                kinds[n, c] = place.get(name[:5], n * 6 + c)
        axis.imshow(kinds.numpy() % 7, cmap="Pastel1", vmin=0, vmax=8)
        for n in range(images):
            for c in range(6):
                axis.text(c, n, f"{int(kinds[n, c]) + 1}", ha="center", va="center", fontsize=9)
        finish(axis, name, "channel", "image")
        axis.set(xticks=range(6), yticks=range(images))
        axis.grid(visible=False)
        lower.hist(x.flatten().numpy(), bins=40, color=COLOURS[-1], alpha=0.6, label="before")
        lower.hist(ours[name].flatten().numpy(), bins=40, color=BLUE, alpha=0.7, label="after")
        lower.axvline(0, color=RED, linewidth=1, label="0")
        finish(lower, "", "value", "how many", legend=True)
    return figure
