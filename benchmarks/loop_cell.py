"""The peers: a plain loop in the manner of torchvision's references, and one with kornia.

The first reads loss and accuracies of each step (`.item()`), as `references/classification` does,
prints a line now and then, and saves after each epoch. With kornia the bytes lie in memory, a batch
is one index, and the chain runs on the batch within the step, each image with its own draw.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import pairs
from benchmarks.arrays import BATCH, EVALUATION_BATCH, Work
from benchmarks.cells import Cell
from benchmarks.loaders import loader
from benchmarks.nets import net

PRINT = 50
"""Steps between two lines."""
Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


class Meters:
    """Running values of a loss and two accuracies, read at each step."""

    def __init__(self) -> None:
        self.windows: list[deque[float]] = [deque(maxlen=20) for _ in range(3)]

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Take one batch: three numbers are read, as the reference does."""
        top = logits.topk(5, 1).indices == targets[:, None]
        shares = (top[:, :1].any(1).float().mean(), top.any(1).float().mean())
        for window, value in zip(self.windows, (loss, *shares), strict=True):
            window.append(value.item())


def train_loop(cell: Cell, work: Work) -> pairs.Row:
    """Train with a plain loop on what `arrays.prepare` wrote; return the row."""
    model = net(work, cell.pool_first, cell.fast)
    start = pairs.digest(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=cell.fast or None)
    parts = {part: _batches(cell, work, part) for part in ("train", "probe", "validation", "test")}
    losses: list[Tensor] = []
    marks: list[float] = []
    first_step, samples = 0.0, 0
    layout = torch.channels_last if cell.fast else torch.contiguous_format
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        for epoch in range(work.epochs):
            model.train()
            meters = Meters()
            for number, (images, targets) in enumerate(parts["train"]()):
                logits = model(images.contiguous(memory_format=layout))
                loss = F.cross_entropy(logits, targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
                samples += len(targets)
                first_step = first_step or time.monotonic()
                if work.first_step:
                    break
                if not cell.barebones:
                    meters.update(loss, logits.detach(), targets)
                    if number % PRINT == 0:
                        print(epoch, number, meters.windows[0][-1], file=sys.stderr)
            if not work.first_step:
                for part in ("validation", "probe"):
                    _evaluate(model, parts[part], layout)
                if not cell.barebones:
                    safetensors.torch.save_file(model.state_dict(), Path(out) / f"{epoch}.st")
            marks.append(time.monotonic())
    accuracy = None
    if not work.first_step:
        _evaluate(model, parts["validation"], layout)
        accuracy = _evaluate(model, parts["test"], layout)
    return pairs.result(
        losses=torch.stack(losses).tolist(),
        samples=samples,
        seconds=marks[-1] - began,
        marks=marks,
        first_step=first_step,
        weights=(start, pairs.digest(model.state_dict())),
        accuracy=accuracy,
    )


@torch.inference_mode()
def _evaluate(model: nn.Module, batches: Batches, layout: torch.memory_format) -> float:
    model.eval()
    right = total = 0
    for images, targets in batches():
        logits = model(images.contiguous(memory_format=layout))
        right += int((logits.argmax(1) == targets).sum().item())
        total += len(targets)
    return right / total


def _batches(cell: Cell, work: Work, part: str) -> Batches:
    """Return a function that yields the batches of one epoch."""
    if cell.data == "kornia":
        return _from_memory(work, part)
    found = loader(cell, work, part)
    return lambda: iter(found)


def _from_memory(work: Work, part: str) -> Batches:
    images, labels = map(torch.from_numpy, work.read(part))
    images = images.permute(0, 3, 1, 2).contiguous()
    orders = iter(torch.from_numpy(work.orders())) if part == "train" else None
    augment = _kornia(work, part == "train" and work.augment)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        order = next(orders) if orders else torch.arange(len(labels))
        for index in order.split(BATCH if orders else EVALUATION_BATCH):
            with torch.no_grad():
                x = augment(images[index].float() / 255)
            yield x, labels[index]

    return epoch


def _kornia(work: Work, augmented: bool) -> Any:
    """Return the chain of `augment_steps.CHAIN` in kornia, with normalisation; or only that."""
    import kornia.augmentation as k

    mean, std = (torch.tensor(work.facts[name]) for name in ("mean", "std"))
    if not augmented:
        return k.Normalize(mean, std)
    return nn.Sequential(
        k.RandomHorizontalFlip(),
        k.RandomCrop((32, 32), padding=4),
        k.RandomRotation(15.0),
        k.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0),
        k.Normalize(mean, std),
        k.RandomErasing(p=0.3, scale=(0.02, 0.4)),
    )
