"""Judging a model on a set of images: in eval mode, in order, without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from pellucid.engine import Engine
from pellucid.metrics.accuracy import measure
from pellucid.task import Task
from pellucid.values import Evaluation, ImageSet, Predictions

BATCH = 500
"""Images per forward pass: large enough to be fast, small enough to add little memory."""


def predict(
    engine: Engine, model: nn.Module, data: ImageSet, prepare: Callable[[Tensor], Tensor]
) -> Predictions:
    """Return what `model` says about each image of `data`, in order.

    The model is left in the mode in which it was. Each image is seen once; an empty set gives
    an empty table.
    """
    logits = torch.zeros(len(data), len(data.classes))
    _fill(logits, engine, model, data, prepare, torch.arange(len(data)).split(BATCH))
    return Predictions(logits, data.targets, torch.arange(len(data)), data.classes)


def predict_together(
    engine: Engine, model: nn.Module, data: ImageSet, prepare: Callable[[Tensor], Tensor]
) -> Predictions:
    """Return what `predict` returns, on every process, each having done a part of the work.

    The parts are whole forward passes of `BATCH` images, dealt out in turn: no image is seen
    twice to fill up a part, and each is computed in the same company as by one process, so that
    the table is the same to the last bit.
    """
    logits = torch.zeros(len(data), len(data.classes))
    parts = torch.arange(len(data)).split(BATCH)[engine.rank :: engine.processes.size]
    _fill(logits, engine, model, data, prepare, parts)
    engine.processes.add(logits)  # every row is there once; elsewhere it is 0
    return Predictions(logits, data.targets, torch.arange(len(data)), data.classes)


@torch.inference_mode()
def _fill(
    logits: Tensor,
    engine: Engine,
    model: nn.Module,
    data: ImageSet,
    prepare: Callable[[Tensor], Tensor],
    parts: Iterable[Tensor],
) -> None:
    """Put what `model` says about the images at each of `parts` in the rows of `logits`."""
    was_training = model.training
    model.eval()
    for index in parts:
        images = prepare(data.pixels(index).to(engine.device))
        with engine.forward():
            logits[index] = model(images).float().cpu()
    model.train(was_training)


def evaluate(engine: Engine, model: nn.Module, task: Task) -> Evaluation:
    """Judge `model` on the sample of training images and on the validation images of `task`.

    The result is equal on every process.
    """
    return Evaluation(
        train=measure(predict_together(engine, model, task.probe, task.prepare)),
        validation=measure(predict_together(engine, model, task.validation, task.prepare)),
    )
