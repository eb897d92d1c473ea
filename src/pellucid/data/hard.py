"""Rounds of the images that were hard to learn."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.data.batches import Batches
from pellucid.data.sampling import Hard
from pellucid.imagelosses import ImageLosses
from pellucid.seeds import generator
from pellucid.values import ImageSet


class HardBatches(Batches):
    """Batches of a set of images, the hardest more often.

    The first round shows each image once. A later one is drawn from (seed, "shuffle", round) and
    from the losses that were noted by its beginning; so it can be asked for only when the one
    before it has been trained on.

    Args:
        data: the training images.
        batch_size: images per optimizer step.
        accumulate: pieces in which a step's batch is computed, to save memory.
        seed: of the run.
        sampling: how many images a round shows.
        losses: noted by the loop.
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int,
        accumulate: int,
        seed: int,
        sampling: Hard,
        losses: ImageLosses,
    ) -> None:
        super().__init__(data, batch_size, accumulate, seed, sampling)
        self.hard = sampling
        self.losses = losses
        self._round = 0
        self._again = torch.empty(0, dtype=torch.int64)

    def index(self, step: int) -> Tensor:
        """Return the positions of the images in the batch of `step` (from 0), int64 (B,)."""
        later = step - self.steps_per_epoch
        if later < 0:
            return super().index(step)
        steps = -(-self.hard.size(len(self.data)) // self.batch_size)
        number, position = later // steps + 1, later % steps
        if number != self._round:
            draws = generator(self.seed, "shuffle", number)
            losses = self.losses.of_round(number)
            self._round, self._again = number, self.hard.again(losses, draws)
        start = position * self.batch_size
        return self._again[start : start + self.batch_size]
