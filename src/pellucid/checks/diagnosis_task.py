"""Trying out loss, batches and preparation of a run before the first step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pellucid.checks.diagnosis_data import features
from pellucid.checks.diagnosis_facts import TaskFacts
from pellucid.seeds import reseed
from pellucid.task import Task
from pellucid.values import Batch, ImageSet, Loss

ORDERS = 200
"""Steps, at most and evenly spread over an epoch, whose labels are looked at."""

SURE = (0.5, 1, 1.5, 2, 3, 4, 5, 6, 7, 8, 10, 12, 20, 50)
"""Logits of the right class, the others 0, at which the loss is tried."""


def look_at_task(
    task: Task, train: ImageSet, device: torch.device, smoothing: float = 0.0
) -> TaskFacts:
    """Return what loss, batches and preparation of `task` do. Trains nothing.

    Costs the pixels of one batch and the order of one epoch.

    Args:
        task: what the loop is going to work on.
        train: the training images that its batches are taken from.
        device: where it works.
        smoothing: the label smoothing that the loss is meant to have.
    """
    classes = len(train.classes)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        reseed(task.seed, "step", 0)
        together, expected = _order(task, train)
        batch, _ = next(iter(task.train.pieces(0)))
        placed = batch.to(device)
        shown = task.augment(placed, 0)
        prepared = [task.prepare(train.pixels(batch.index).to(device)) for _ in range(2)]
        return TaskFacts(
            floor=floor(task.loss, classes, device),
            floor_expected=_entropy(smoothing, classes),
            doubling=doubling(task.loss, classes, device),
            unrepeatable=float((prepared[0] - prepared[1]).abs().max()),
            train_input=_moments(shown.images),
            evaluation_input=_moments(prepared[0]),
            together=together,
            together_expected=expected,
            astray=_astray(shown, prepared[0], train.label(batch.index)),
            astray_expected=1 - expected,
            seen=len(batch.index),
        )


def floor(loss: Loss, classes: int, device: torch.device) -> float:
    """Return the lowest loss that right answers get, from hardly to entirely sure.

    >>> import torch.nn.functional as F
    >>> cpu = torch.device("cpu")
    >>> round(floor(F.cross_entropy, 10, cpu), 4)
    0.0
    >>> round(floor(lambda z, t: F.cross_entropy(z.softmax(1), t), 10, cpu), 4)  # ln(e + 9) - 1
    1.4612
    """
    right = torch.eye(classes, device=device)
    targets = torch.arange(classes, device=device)
    return min(float(loss(sure * right, targets)) for sure in SURE)


def doubling(loss: Loss, classes: int, device: torch.device) -> float:
    """Return the loss of a batch that is given twice, divided by that of the batch.

    >>> import torch.nn.functional as F
    >>> total = lambda z, t: F.cross_entropy(z, t, reduction="sum")
    >>> cpu = torch.device("cpu")
    >>> round(doubling(F.cross_entropy, 3, cpu), 4), round(doubling(total, 3, cpu), 4)
    (1.0, 2.0)
    """
    logits = torch.eye(classes, device=device)
    targets = (torch.arange(classes, device=device) + 1) % classes
    once = float(loss(logits, targets))
    twice = float(loss(torch.cat([logits, logits]), torch.cat([targets, targets])))
    return twice / once if once else math.nan


def _astray(shown: Batch, originals: Tensor, labels: Tensor) -> float:
    """Return the share of a batch whose target is not the label of the most similar original.

    Flips, crops and changes of colour leave an image most like itself, or like another of its
    class. Mixed images have no one label: 0.
    """
    if shown.targets.dim() > 1:
        return 0.0
    nearest = torch.cdist(features(shown.images), features(originals)).argmin(1)
    return float((labels[nearest.cpu()] != shown.targets.cpu()).float().mean())


def _order(task: Task, train: ImageSet) -> tuple[float, float]:
    """Return the share of pairs within a batch that have the same label; that in any order."""
    steps = min(task.plan.steps_per_epoch, task.plan.steps)
    taken = range(0, steps, max(1, steps // ORDERS))
    counts = torch.stack(
        [train.label(task.train.index(s)).bincount(minlength=len(train.classes)) for s in taken]
    ).double()
    sizes, total = counts.sum(1), counts.sum(0)
    pairs = float((sizes * (sizes - 1)).sum())
    same = float((counts * (counts - 1)).sum())
    n = float(total.sum())
    expected = float((total * (total - 1)).sum()) / max(n * (n - 1), 1)
    return same / max(pairs, 1), expected


def _entropy(smoothing: float, classes: int) -> float:
    """Return the entropy of a smoothed label, in nats: the least that its cross-entropy can be."""
    rest = smoothing / classes
    shares = [1 - smoothing + rest] + [rest] * (classes - 1)
    return -sum(p * math.log(p) for p in shares if p > 0)


def _moments(images: Tensor) -> tuple[float, float]:
    return float(images.float().mean()), float(images.float().std())
