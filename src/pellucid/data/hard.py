"""Rounds of the images that were hard to learn."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from pellucid.data.batches import Batches
from pellucid.data.sampling import Hard
from pellucid.imagelosses import ImageLosses


class HardBatches(Batches):
    """Batches of a set of images, the hardest more often; made as `Batches` are.

    The first round shows each image once. A later one is drawn from (seed, "shuffle", round) and
    from the losses that were noted by its beginning; so it can be asked for only when the one
    before it has been trained on.
    """

    sampling: Hard

    @cached_property
    def losses(self) -> ImageLosses:
        """What the loop has to note for the rounds to come."""
        return ImageLosses(len(self.data))

    def place(self, step: int) -> tuple[int, int]:
        """Return the round of `step`, both from 0, and which of its batches it is."""
        later = step - self.steps_per_epoch
        if later < 0:
            return 0, step
        number, position = divmod(later, -(-self.sampling.size(len(self.data)) // self.batch_size))
        return number + 1, position

    def order(self, number: int, draws: torch.Generator) -> Tensor:
        """Return the positions that round `number` shows, int64."""
        if number == 0:
            return super().order(number, draws)
        return self.sampling.again(self.losses.of_round(number), draws)
