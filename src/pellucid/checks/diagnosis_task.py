"""Trying out loss, batches and preparation of a run before the first step."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.checks.diagnosis_data import features
from pellucid.checks.diagnosis_facts import TaskFacts
from pellucid.seeds import reseed
from pellucid.task import Task
from pellucid.values import Batch, ImageSet, Loss

ORDERS = 200
"""Steps, at most and evenly spread over an epoch, whose labels are looked at."""

SHOWN = 256
"""Images, at least, whose targets are compared with what they look like, if there are so many."""

LOW = 10
"""Spatial frequencies in each direction, from 0 on, by which images are compared."""

SURE = (0.5, 1, 1.5, 2, 3, 4, 5, 6, 7, 8, 10, 12, 20, 50)
"""Logits of the right class, the others 0, at which the loss is tried."""


def look_at_task(
    task: Task, train: ImageSet, device: torch.device, smoothing: float = 0.0
) -> TaskFacts:
    """Return what loss, batches and preparation of `task` do. Trains nothing.

    Costs the pixels of 256 images, twice prepared and once augmented, and the order of one epoch.

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
        shown, index = _first_batches(task, device)
        pixels = train.pixels(index).to(device)
        prepared, again = task.prepare(pixels), task.prepare(pixels)
        images = torch.cat([batch.images for batch in shown])
        follow, error = _following(shown, images, prepared, train.label(index))
        return TaskFacts(
            floor=floor(task.loss, classes, device),
            floor_expected=_entropy(smoothing, classes),
            doubling=doubling(task.loss, classes, device),
            unrepeatable=float((prepared - again).abs().max()),
            train_input=_moments(images),
            evaluation_input=_moments(prepared),
            together=together,
            together_expected=expected,
            follow=follow,
            follow_error=error,
            seen=len(index),
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


def _first_batches(task: Task, device: torch.device) -> tuple[list[Batch], Tensor]:
    """Return the first pieces as the network gets them, and the positions of their images."""
    shown: list[Batch] = []
    for step in range(min(task.plan.steps_per_epoch, task.plan.steps)):
        shown += [task.augment(piece.to(device), step) for piece in task.train.pieces(step)]
        if sum(len(batch.index) for batch in shown) >= SHOWN:
            break
    return shown, torch.cat([batch.index for batch in shown]).cpu()


def _following(
    shown: list[Batch], images: Tensor, originals: Tensor, labels: Tensor
) -> tuple[float, float]:
    """Return how far targets follow the images, from chance 0 to always 1; two standard errors.

    For each image the labels are ranked by their nearest original, and the rank of its target is
    compared with that of the targets of all images. Flips, shifts and changes of colour leave
    enough of an image: likeness is by places, by mirrored places, and by the sizes of spatial
    frequencies, which a shift leaves as they are; the best of the two counts.
    """
    if any(batch.targets.dim() > 1 for batch in shown):  # mixed images have no one label
        return math.nan, math.nan
    targets = torch.cat([batch.targets for batch in shown]).cpu()
    known = labels.unique()
    there = torch.isin(targets, known)
    if len(known) < 2 or not there.any():
        return math.nan, math.nan
    best = (-math.inf, 0.0)
    for view in (features, _frequencies):
        a, b = view(images), torch.cat([view(originals), view(originals.flip(3))])
        distance = torch.cdist(a, b).cpu()
        both = torch.cat([labels, labels])
        nearest = torch.stack([distance[:, both == label].amin(1) for label in known], 1)
        rank = nearest.argsort(1).argsort(1).double() / (len(known) - 1)
        chosen = rank[:, torch.searchsorted(known, targets[there])]
        chance = float(chosen.mean())
        mine = float(chosen[there].diagonal().mean())
        error = 2 * float(chosen.std()) / math.sqrt(int(there.sum())) / chance if chance else 0.0
        best = max(best, (1 - mine / chance if chance else 0.0, error))
    return best


def _frequencies(images: Tensor) -> Tensor:
    """Return the sizes of the low spatial frequencies of images (B, C, H, W), as vectors."""
    x = F.adaptive_avg_pool2d(images, (min(images.shape[2], 64), min(images.shape[3], 64)))
    sizes = torch.fft.fftshift(torch.fft.fft2(x - x.mean((2, 3), keepdim=True)).abs(), (2, 3))
    height, width = sizes.shape[2:]
    keep = min(LOW, height // 2, width // 2)
    middle = sizes[:, :, height // 2 - keep :, width // 2 - keep :][..., : 2 * keep, : 2 * keep]
    x = middle.flatten(1)
    scaled: Tensor = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True).clamp_min(1e-6)
    return scaled


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
