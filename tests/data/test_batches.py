"""What an epoch shows, and how a batch is cut into pieces."""

from __future__ import annotations

import pytest
import torch

from pellucid.data.batches import Batches
from pellucid.data.sampling import Balanced, Shuffled
from pellucid.seeds import generator
from pellucid.values import ImageSet


def images(labels: torch.Tensor) -> ImageSet:
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return ImageSet.of(pixels, labels, tuple("abc"), "x/train")


@pytest.mark.parametrize("size", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 4, 20])
def test_pieces_are_the_batch_cut_at_even_rows(size: int, accumulate: int) -> None:
    batches = Batches(images(torch.zeros(size).long()), size, accumulate, seed=0)
    pieces = list(batches.pieces(0))
    assert torch.cat([batch.index for batch in pieces]).tolist() == batches.index(0).tolist()
    assert torch.cat([batch.rows for batch in pieces]).tolist() == list(range(size))
    assert all(int(batch.rows[0]) % 2 == 0 for batch in pieces)
    assert len(pieces) == min(accumulate, -(-size // 2))
    lengths = [len(batch.rows) for batch in pieces]
    assert max(lengths) - min(lengths) <= 3  # a pair more, and the odd row
    assert sum(batch.share for batch in pieces) == pytest.approx(1.0)


def test_shuffled_shows_each_image_once() -> None:
    labels = torch.arange(30) % 3
    order = Shuffled().order(labels, generator(0, "shuffle", 1))
    assert sorted(order.tolist()) == list(range(30))


def test_balanced_draws_classes_alike_and_images_of_a_class_alike() -> None:
    """Within five standard deviations of the binomial; an unbalanced draw is 30 away."""
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([9000, 900, 100]))
    order = Balanced().order(labels, generator(0, "shuffle", 0))
    assert len(order) == 10_000
    counts = torch.bincount(labels[order], minlength=3).double()
    assert (counts / 10_000 - 1 / 3).abs().max() < 5 * (2 / 9 / 10_000) ** 0.5
    rare = torch.bincount(order[labels[order] == 2] - 9900, minlength=100)
    assert rare.min() > 0  # each of the hundred rare images, 33 times on average


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    data = images(torch.tensor([0, 0, 0, 1, 1, 2] * 5))
    whole = Batches(data, 7, 1, seed=3, sampling=Balanced())
    steps = [whole.index(step).tolist() for step in range(15)]
    other = Batches(data, 7, 4, seed=3, sampling=Balanced())
    assert [other.index(step).tolist() for step in reversed(range(15))] == steps[::-1]
    assert Batches(data, 7, 1, seed=4, sampling=Balanced()).index(0).tolist() != steps[0]
