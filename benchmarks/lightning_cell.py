"""The peer: Lightning with torchvision's transforms, at its defaults and at its best."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from benchmarks import pairs
from benchmarks.arrays import Work
from benchmarks.cells import Cell
from benchmarks.loaders import Item, loader
from benchmarks.nets import net


class Module(L.LightningModule):
    """The network with its loss; `self.log` unless the cell is bare."""

    def __init__(self, cell: Cell, work: Work) -> None:
        super().__init__()
        self.cell = cell
        self.net = net(work, cell.pool_first, cell.fast)
        self.losses: list[Tensor] = []
        self.right: list[Tensor] = []
        self.samples = 0

    def training_step(self, batch: Item, index: int) -> Tensor:
        """Return the loss of one batch."""
        loss = F.cross_entropy(self.net(self.images(batch)), batch[1])
        self.losses.append(loss.detach())
        self.samples += len(batch[1])
        if not self.cell.barebones:
            self.log("loss", loss)
        return loss

    def validation_step(self, batch: Item, index: int, dataloader_idx: int = 0) -> None:
        """Judge one batch of one of the two sets."""
        logits, targets = self.net(self.images(batch)), batch[1]
        loss, right = F.cross_entropy(logits, targets), logits.argmax(1) == targets
        if not self.cell.barebones:
            self.log_dict({"val_loss": loss, "val_accuracy": right.float().mean()})
        if dataloader_idx == 1:
            self.right.append(right)

    test_step = validation_step

    def images(self, batch: Item) -> Tensor:
        """Return the images, in channels-last layout if the cell has it."""
        if self.cell.fast:
            return batch[0].contiguous(memory_format=torch.channels_last)
        return batch[0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3, fused=self.cell.fast or None)


class Clock(Callback):
    """Notes the time; may end the training after one step."""

    def __init__(self, first_step: bool) -> None:
        self.only_first = first_step
        self.marks: list[float] = []
        self.began = self.first_step = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Start the training clock."""
        self.began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the end of the first step."""
        self.first_step = self.first_step or time.monotonic()
        trainer.should_stop = trainer.should_stop or self.only_first

    def on_train_epoch_end(self, *_: Any) -> None:
        """Note the end of an epoch; its validation is over."""
        self.marks.append(time.monotonic())


def train_lightning(cell: Cell, work: Work) -> pairs.Row:
    """Train with Lightning on what `arrays.prepare` wrote; return the row."""
    clock, module = Clock(work.first_step), Module(cell, work)
    start = pairs.digest(module.net.state_dict())
    callbacks: list[Callback] = [clock]
    options: dict[str, Any] = {"barebones": True}
    if not cell.barebones:
        callbacks.append(ModelCheckpoint(monitor="val_accuracy/dataloader_idx_0", mode="max"))
        options = {} if cell.shown else {"enable_progress_bar": False, "logger": False}
    if work.first_step:
        options = {"barebones": True, "max_steps": 1, "limit_val_batches": 0}
        callbacks = [clock]
    train, probe, validation, test = (
        loader(cell, work, part) for part in ("train", "probe", "validation", "test")
    )
    with tempfile.TemporaryDirectory() as out:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=work.epochs,
            precision=cell.precision,
            callbacks=callbacks,
            default_root_dir=out,
            **options,
        )
        trainer.fit(module, train, [validation, probe])
        ended = time.monotonic()
        end = pairs.digest(module.net.state_dict())
        if not work.first_step:
            module.right.clear()
            best = None if cell.barebones else "best"
            trainer.test(module, [validation, test], ckpt_path=best, verbose=cell.shown)
    return pairs.result(
        losses=torch.stack(module.losses).tolist(),
        samples=module.samples,
        seconds=ended - clock.began,
        marks=clock.marks or [ended],
        first_step=clock.first_step,
        weights=(start, end),
        accuracy=torch.cat(module.right).float().mean().item() if module.right else None,
    )
