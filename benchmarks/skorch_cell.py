"""The peer: skorch, with its default callbacks and without any; arrays in memory."""

from __future__ import annotations

import time
from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from benchmarks import pairs
from benchmarks.arrays import BATCH, EVALUATION_BATCH, Work
from benchmarks.cells import Cell
from benchmarks.loaders import Order
from benchmarks.nets import net


class Clocked(NeuralNetClassifier):  # type: ignore[misc]
    """Notes the time, and judges the sample of training images after each epoch."""

    probe: Any = None

    def on_train_begin(self, net: Any, *given: Any, **named: Any) -> None:
        """Start the training clock."""
        super().on_train_begin(net, *given, **named)
        self.marks: list[float] = []
        self.first: float | None = None
        self.samples = 0
        self.began = time.monotonic()

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, **named: Any
    ) -> None:
        """Note the end of the first step."""
        super().on_batch_end(net, batch=batch, training=training, **named)
        if training:
            self.samples += len(batch[1])
            self.first = self.first or time.monotonic()

    def on_epoch_end(self, net: Any, *given: Any, **named: Any) -> None:
        """Judge the sample, and note the time."""
        super().on_epoch_end(net, *given, **named)
        self.predict_proba(self.probe)
        self.marks.append(time.monotonic())


def train_skorch(cell: Cell, work: Work) -> pairs.Row:
    """Train with skorch on what `arrays.prepare` wrote; return the row."""
    x, y = work.normalised("train", channels_first=True)
    validation, test = (work.normalised(name, True) for name in ("validation", "test"))
    model = net(work, cell.pool_first, cell.fast)
    start = pairs.digest(model.state_dict())
    options: dict[str, Any] = {"optimizer__fused": True} if cell.fast else {}
    if cell.barebones:
        options |= {"callbacks": "disable"}
    trainer = Clocked(
        model,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=work.epochs,
        batch_size=BATCH,
        iterator_train__sampler=Order(work.orders()),
        iterator_valid__batch_size=EVALUATION_BATCH,
        train_split=predefined_split(Dataset(*validation)),
        classes=list(range(10)),
        **options,
    )
    trainer.probe, _ = work.normalised("probe", channels_first=True)
    trainer.fit(x, y)
    ended = time.monotonic()
    trainer.predict(validation[0])
    accuracy = float((trainer.predict(test[0]) == test[1]).mean())
    return pairs.result(
        losses=[loss for epoch in trainer.history for loss in _losses(epoch)],
        samples=trainer.samples,
        seconds=ended - trainer.began,
        marks=trainer.marks or [ended],
        first_step=trainer.first,
        weights=(start, pairs.digest(trainer.module_.state_dict())),
        accuracy=accuracy,
    )


def _losses(epoch: Any) -> list[float]:
    return [batch["train_loss"] for batch in epoch["batches"] if "train_loss" in batch]
