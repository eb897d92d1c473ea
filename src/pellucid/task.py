"""What a run works on: built once from a recipe and its data, never changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pellucid.plan import Plan
from pellucid.values import Augment, ImageSet, Loss, Mode, Pieces, Schedule


@dataclass(frozen=True, eq=False)
class Task:
    """A recipe made real.

    Args:
        train: the training batches, by step.
        probe: a fixed sample of the training images, judged like the validation images so that
            the two curves can be compared (eval mode, no augmentation).
        validation: the validation images; may be empty.
        prepare: uint8 images (B, C, H, W) -> the network's float input. For evaluation.
        augment: (batch, step) -> the batch as the network gets it in training.
        loss: (logits, targets) -> 0-d mean loss.
        schedule: number of steps done -> learning rate of the next one.
        plan: the lengths, in steps.
        mode: (model, step) -> None: puts the model in training mode, but for what is frozen.
        max_grad_norm: gradients are scaled down to this norm; `inf` only measures.
        max_grad_value: each number of a gradient is cut to this size; `inf` leaves all.
        seed: names all random streams.
    """

    train: Pieces
    probe: ImageSet
    validation: ImageSet
    prepare: Callable[[Tensor], Tensor]
    augment: Augment
    loss: Loss
    schedule: Schedule
    plan: Plan
    mode: Mode
    max_grad_norm: float
    max_grad_value: float
    seed: int
