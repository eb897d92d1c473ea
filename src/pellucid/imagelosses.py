"""The losses of single images, for a sampling that goes by them; usually none are kept."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.values import Batch


class NoLosses:
    """No losses of single images: the order of the images does not depend on them."""

    def note(self, batch: Batch, logits: Tensor) -> None:
        """Do nothing."""

    def tensors(self) -> dict[str, Tensor]:
        """Return nothing to save."""
        return {}


class ImageLosses:
    """The loss of each training image when it was last shown: what the sampling `hard` goes by.

    A round is drawn from the losses as they were when it began. They are kept beside the newest
    ones, so that a run which goes on in the middle of a round draws the same.

    Args:
        images: number of training images.

    Attributes:
        last: cross-entropy of each image when it was last shown, float32 (N,), where the network
            is: it waits for no device until a round is drawn.
        drawn: `last` as it was when the round began, on the CPU.
        round: that `drawn` belongs to; the first, in which each image is shown once, is 0.
    """

    def __init__(self, images: int) -> None:
        self.last = torch.zeros(images)
        self.drawn = torch.zeros(images)
        self.round = 0

    @torch.no_grad()
    def note(self, batch: Batch, logits: Tensor) -> None:
        """Keep the cross-entropy of `logits` (B, K) for the images of `batch`."""
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        self.last = self.last.to(losses.device)
        self.last[batch.index.to(losses.device, non_blocking=True)] = losses.to(self.last)

    def of_round(self, number: int) -> Tensor:
        """Return the losses (N,) as they were when round `number` began: this one or the next."""
        if number == self.round + 1:
            self.drawn.copy_(self.last)
            self.round = number
        assert number == self.round, "rounds come one after the other"
        return self.drawn

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to save, by name."""
        return {"last": self.last, "drawn": self.drawn, "round": torch.tensor(self.round)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned."""
        self.last.copy_(tensors["last"])
        self.drawn.copy_(tensors["drawn"])
        self.round = int(tensors["round"])
