"""The training images in the order in which the loop sees them: a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from pellucid.data.sampling import Shuffled
from pellucid.imagelosses import ImageLosses, NoLosses
from pellucid.seeds import generator
from pellucid.values import Batch, ImageSet


class Sampling(Protocol):
    """Which images an epoch shows."""

    def order(self, labels: Tensor, draws: torch.Generator) -> Tensor:
        """Return the positions of one epoch, int64 (N,), for `labels` (N,)."""


class Batches:
    """Shuffled batches of a set of images.

    Each epoch is one order, drawn from (seed, "shuffle", epoch); the last batch of an
    epoch holds what is left. Any step can be asked for, in any order, so a resumed run needs
    no saved position.

    Args:
        data: the training images.
        batch_size: images per optimizer step.
        accumulate: pieces in which a step's batch is computed, to save memory.
        seed: of the run.
        sampling: which images an epoch shows; each once, shuffled, if left out.
        rank: the process whose pieces are given.
        processes: how many share a batch.
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int,
        accumulate: int,
        seed: int,
        sampling: Sampling | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.data = data
        self.sampling = sampling or Shuffled()
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self._round = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in which each image is seen once: ceil(N / batch size)."""
        return -(-len(self.data) // self.batch_size)

    def index(self, step: int) -> Tensor:
        """Return the positions of the images in the batch of `step` (from 0), int64 (B,)."""
        number, position = self.place(step)
        if number != self._round:
            draws = generator(self.seed, "shuffle", number)
            self._round, self._order = number, self.order(number, draws)
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]

    @property
    def losses(self) -> ImageLosses | NoLosses:
        """What the loop has to note for the orders to come: nothing."""
        return NoLosses()

    def place(self, step: int) -> tuple[int, int]:
        """Return the epoch of `step`, both from 0, and which of its batches it is."""
        return divmod(step, self.steps_per_epoch)

    def order(self, number: int, draws: torch.Generator) -> Tensor:
        """Return the positions that epoch `number` shows, int64 (N,)."""
        del number
        return self.sampling.order(self.data.targets, draws)

    def pieces(self, step: int) -> Iterator[Batch]:
        """Yield this process's pieces of the batch of `step`.

        They are cut at even rows, since mixing pairs row 2k with row 2k + 1; but for that their
        sizes are equal. There are `accumulate` for each process, dealt out in order; a batch of
        fewer pairs has fewer, so that the last processes may get none. The first one always has
        some.
        """
        index = self.index(step)
        epoch, _ = self.place(step)
        size = len(index)
        pairs = -(-size // 2)
        count = min(self.accumulate * self.processes, pairs)
        mine, end = (-(-count * r // self.processes) for r in (self.rank, self.rank + 1))
        for number in range(mine, end):
            first, last = 2 * (pairs * number // count), 2 * (pairs * (number + 1) // count)
            at = index[first:last]
            rows = torch.arange(first, min(last, size))
            yield Batch(self.data.pixels(at), self.data.label(at), at, rows, size, epoch)
