"""Cutting the learning rate by what validation shows."""

from __future__ import annotations

from typing import Any

from pellucid.values import Metrics


class NoPlateau:
    """The learning rate is what the schedule says."""

    def lower(self, lr: float) -> float:
        """Return `lr`."""
        return lr

    def offer(self, metrics: Metrics) -> None:
        """Do nothing."""

    def facts(self) -> dict[str, Any]:
        """Return nothing to save."""
        return {}

    def load(self, facts: dict[str, Any]) -> None:
        """Take over nothing."""


class Plateau:
    """Cuts the learning rate when the validation loss stops falling.

    The rule of `torch.optim.lr_scheduler.ReduceLROnPlateau` (mode `min`, threshold relative):
    after more than `patience` evaluations without a relative gain of `threshold`, the rate is
    multiplied by `factor`, down to `floor`. It is the one thing about the learning rate that
    depends on what was measured, so its counters are part of the state.
    """

    def __init__(
        self, factor: float, patience: int, threshold: float, cooldown: int, floor: float
    ) -> None:
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.cooldown = cooldown
        self.floor = floor
        self.best: float | None = None
        self.bad = 0
        self.resting = 0
        self.cuts = 0

    def lower(self, lr: float) -> float:
        """Return `lr` after the cuts so far, not below the floor."""
        for _ in range(self.cuts):
            lower = max(lr * self.factor, self.floor)
            if lr - lower <= 1e-8:  # torch ignores a cut that small
                break
            lr = lower
        return lr

    def offer(self, metrics: Metrics) -> None:
        """Count one evaluation, and cut when the patience is used up; none at all is no news."""
        if metrics.n == 0:
            return
        if self.best is None or metrics.loss < self.best * (1 - self.threshold):
            self.best, self.bad = metrics.loss, 0
        else:
            self.bad += 1
        if self.resting > 0:
            self.resting, self.bad = self.resting - 1, 0
        if self.bad > self.patience:
            self.cuts, self.resting, self.bad = self.cuts + 1, self.cooldown, 0

    def facts(self) -> dict[str, Any]:
        """Return the counters."""
        return {name: getattr(self, name) for name in ("best", "bad", "resting", "cuts")}

    def load(self, facts: dict[str, Any]) -> None:
        """Take over what `facts` returned."""
        self.best, self.bad = facts["best"], facts["bad"]
        self.resting, self.cuts = facts["resting"], facts["cuts"]
