"""Which parts of a network train at a step."""

from __future__ import annotations

from torch import nn

from pellucid.values import Mode, Staged


def training_mode(model: nn.Module, steps_per_epoch: int) -> Mode:
    """Return the function that puts a network in training mode at a step.

    A pretrained backbone stays frozen for its first epochs: it gets no gradient, and its
    normalisation stays in eval mode, since without a gradient nothing would answer to the
    statistics that drift.
    """
    if isinstance(model, Staged) and model.freeze_epochs > 0:
        return _staged(round(model.freeze_epochs * steps_per_epoch))
    return _plain


def _plain(model: nn.Module, step: int) -> None:
    if not model.training:  # the caller may have left it in eval mode; `train()` takes its time
        model.train()


def _staged(frozen_steps: int) -> Mode:
    def mode(model: nn.Module, step: int) -> None:
        assert isinstance(model, Staged)
        frozen = step < frozen_steps
        model.train()
        for part in model.backbone():
            part.train(not frozen)
            part.requires_grad_(not frozen)

    return mode
