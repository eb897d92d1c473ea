"""Early stopping: ending a run when validation no longer gets better."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from pellucid.values import Metrics, StopRule


class NeverStop:
    """The run goes on to its planned end."""

    now = False

    def offer(self, metrics: Metrics) -> None:
        """Do nothing."""

    def facts(self) -> dict[str, Any]:
        """Return nothing to save."""
        return {}

    def load(self, facts: dict[str, Any]) -> None:
        """Take over nothing."""


class EarlyStop:
    """Ends the run at the `patience`-th evaluation in a row without a gain (Prechelt, 1998).

    Attributes:
        now: whether the run is to end.
        best: the best value so far; None before the first evaluation.
        bad: evaluations since then.
    """

    def __init__(self, patience: int, min_change: float, watch: str) -> None:
        self.patience = patience
        self.min_change = min_change
        self.watch = watch
        self.best: float | None = None
        self.bad = 0

    @property
    def now(self) -> bool:
        """Whether the run is to end."""
        return self.bad >= self.patience

    def offer(self, metrics: Metrics) -> None:
        """Count one evaluation on validation images; none at all is no news."""
        if not metrics.n:
            return
        value = metrics.loss if self.watch == "loss" else -metrics.accuracy
        if self.best is None or value < self.best - self.min_change:
            self.best, self.bad = value, 0
        else:
            self.bad += 1

    def facts(self) -> dict[str, Any]:
        """Return the counters."""
        return {"best": self.best, "bad": self.bad}

    def load(self, facts: dict[str, Any]) -> None:
        """Take over what `facts` returned."""
        if facts:
            self.best, self.bad = facts["best"], facts["bad"]


class StopSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a run may end before its planned length.

    The model that is kept and judged is the best one by validation in any case.

    Args:
        patience: the run ends at this many evaluations in a row without a gain; 0: never. (The
            plateau schedule counts otherwise, as PyTorch does: it cuts at the one after.)
        min_change: a gain must be larger than this, in nats or as a share in [0, 1].
        watch: `loss` or `accuracy`, on validation.
    """

    patience: Annotated[int, msgspec.Meta(ge=0)] = 0
    min_change: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    watch: Literal["loss", "accuracy"] = "loss"

    def build(self) -> StopRule:
        """Return the rule, with its counters at 0."""
        if not self.patience:
            return NeverStop()
        return EarlyStop(self.patience, self.min_change, self.watch)
