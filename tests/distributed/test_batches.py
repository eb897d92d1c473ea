"""How a batch is cut for several processes: every image once, whatever the shape."""

from __future__ import annotations

import random

import torch

from pellucid.data.batches import Batches
from pellucid.values import ImageSet


def images(count: int) -> ImageSet:
    pixels = torch.zeros(count, 1, 1, 1, dtype=torch.uint8)
    return ImageSet.of(pixels, torch.zeros(count).long(), ("a",), "x/train")


def test_all_processes_together_have_the_batch() -> None:
    """500 random shapes: the union over ranks and pieces is the batch, in order, at even rows."""
    draws = random.Random(0)
    idle = 0
    for _ in range(500):
        count, size = draws.randint(1, 120), draws.randint(1, 40)
        world, accumulate = draws.randint(1, 8), draws.randint(1, 5)
        data, seed = images(count), draws.randint(0, 9)
        whole = Batches(data, size, 1, seed)
        one = Batches(data, size, world * accumulate, seed)
        ranks = [Batches(data, size, accumulate, seed, None, r, world) for r in range(world)]
        for step in range(2 * whole.steps_per_epoch):
            mine = [list(rank.pieces(step)) for rank in ranks]
            assert mine[0], "rank 0 always has images"
            idle += sum(not pieces for pieces in mine)
            assert all(len(p) <= accumulate for p in mine)
            flat = [batch for pieces in mine for batch in pieces]
            assert torch.equal(torch.cat([b.index for b in flat]), whole.index(step))
            assert torch.cat([b.rows for b in flat]).tolist() == list(range(len(whole.index(step))))
            assert all(int(b.rows[0]) % 2 == 0 for b in flat)
            assert {b.size for b in flat} == {len(whole.index(step))}
            cuts = [len(b.rows) for b in one.pieces(step)]
            assert [len(b.rows) for b in flat] == cuts  # as one process cuts it
        seen = torch.cat([r.index(s) for r in ranks[:1] for s in range(whole.steps_per_epoch)])
        assert sorted(seen.tolist()) == list(range(count))
    assert idle > 100
