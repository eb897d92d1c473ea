"""The training images in the order in which the loop sees them: a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pellucid.seeds import generator
from pellucid.values import Batch, ImageSet


class Batches:
    """Shuffled batches of a set of images.

    Each epoch is one permutation, drawn from (seed, "shuffle", epoch); the last batch of an
    epoch holds what is left. Any step can be asked for, in any order, so a resumed run needs
    no saved position.

    Args:
        data: the training images.
        batch_size: images per optimizer step.
        accumulate: pieces in which a step's batch is computed, to save memory.
        seed: of the run.
    """

    def __init__(self, data: ImageSet, batch_size: int, accumulate: int, seed: int) -> None:
        self.data = data
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in which each image is seen once: ceil(N / batch size)."""
        return -(-len(self.data) // self.batch_size)

    def index(self, step: int) -> Tensor:
        """Return the positions of the images in the batch of `step` (from 0), int64 (B,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            draws = generator(self.seed, "shuffle", epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.data), generator=draws)
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]

    def pieces(self, step: int) -> Iterator[tuple[Batch, bool]]:
        """Yield the pieces of the batch of `step`, each with whether it is the last.

        Their sizes differ by at most one; a batch smaller than `accumulate` has fewer pieces.
        """
        index = self.index(step)
        size = len(index)
        pieces = torch.arange(size).tensor_split(min(self.accumulate, size))
        for number, rows in enumerate(pieces, 1):
            at = index[rows]
            batch = Batch(self.data.pixels(at), self.data.label(at), at, rows, size)
            yield batch, number == len(pieces)
