"""Judging a model on a set of images: in eval mode, in order, without augmentation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pellucid.engine import Engine
from pellucid.metrics.accuracy import measure
from pellucid.task import Task
from pellucid.values import Evaluation, ImageSet, Predictions

BATCH = 500
"""Images per forward pass: large enough to be fast, small enough to add little memory."""


@torch.inference_mode()
def predict(
    engine: Engine, model: nn.Module, data: ImageSet, prepare: Callable[[Tensor], Tensor]
) -> Predictions:
    """Return what `model` says about each image of `data`, in order.

    The model is left in the mode in which it was. Each image is seen once; an empty set gives
    an empty table.
    """
    was_training = model.training
    model.eval()
    logits = [torch.empty(0, len(data.classes))]
    for index in torch.arange(len(data)).split(BATCH):
        images = prepare(data.pixels(index).to(engine.device))
        with engine.forward(model, sync=False):
            logits.append(model(images).float().cpu())
    model.train(was_training)
    return Predictions(torch.cat(logits), data.targets, torch.arange(len(data)), data.classes)


def evaluate(engine: Engine, model: nn.Module, task: Task) -> Evaluation:
    """Judge `model` on the sample of training images and on the validation images of `task`."""
    return Evaluation(
        train=measure(predict(engine, model, task.probe, task.prepare)),
        validation=measure(predict(engine, model, task.validation, task.prepare)),
    )
