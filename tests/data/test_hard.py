"""Rounds of hard images: who is shown, by which losses, and when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pellucid import Engine, Recipe
from pellucid.assemble import assemble
from pellucid.augment.mixing import MixUp
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.hard import HardBatches
from pellucid.data.sampling import Hard
from pellucid.imagelosses import ImageLosses
from pellucid.loop import fit
from pellucid.values import Batch, ImageSet

N = 40
HARD = Hard(share=0.5, hardest=0.3)


def batches() -> HardBatches:
    pixels = torch.arange(N, dtype=torch.uint8).view(-1, 1, 1, 1)
    data = ImageSet.of(pixels, torch.zeros(N).long(), ("a", "b"), "x/train")
    return HardBatches(data, 7, 1, 0, HARD)


def rounds(found: HardBatches, scores: list[torch.Tensor]) -> list[list[int]]:
    """Return the positions that each round shows; after round i the losses become `scores[i]`."""
    shown, step = [], 0
    for number, score in enumerate(scores):
        count = -(-(N if number == 0 else 20) // 7)
        shown.append([i for k in range(count) for i in found.index(step + k).tolist()])
        step += count
        found.losses.last.copy_(score)
    return shown


def test_the_first_round_shows_each_image_and_a_later_one_the_hardest_and_some_others() -> None:
    rising, falling = torch.arange(N).float(), -torch.arange(N).float()
    seen = rounds(batches(), [rising, falling, falling, falling])
    assert sorted(seen[0]) == list(range(N))
    high, low = set(range(28, 40)), set(range(12))  # 30 % of 40
    for shown, hardest in zip(seen[1:], (high, low, low), strict=True):
        assert len(shown) == len(set(shown)) == 20
        assert hardest < set(shown)
    assert set(seen[2]) != set(seen[3])  # the others are drawn anew
    assert [seen[1][i] for i in range(12)] != sorted(high)  # and all are mixed


def test_each_other_image_is_as_likely_as_the_next() -> None:
    """Within five standard deviations of the binomial, over 2,000 rounds."""
    scores = torch.arange(N).float()
    counts = torch.zeros(N)
    for seed in range(2000):
        counts[HARD.again(scores, torch.Generator().manual_seed(seed))] += 1
    assert (counts[28:] == 2000).all()
    chance = 8 / 28
    assert (counts[:28] / 2000 - chance).abs().max() < 5 * (chance * (1 - chance) / 2000) ** 0.5


def test_losses_that_come_during_a_round_count_in_the_next_one() -> None:
    found = batches()
    losses = found.losses
    losses.last.copy_(torch.arange(N).float())
    first = found.index(6).tolist()  # round 1 begins
    losses.last.copy_(-torch.arange(N).float())
    anew = batches()  # as a process that goes on from a checkpoint
    anew.losses.load(losses.tensors())
    assert anew.index(6).tolist() == first
    assert [anew.index(s).tolist() for s in (7, 8)] == [found.index(s).tolist() for s in (7, 8)]
    with pytest.raises(AssertionError, match="one after the other"):
        batches().index(12)


@pytest.mark.parametrize("mixed", [False, True])
def test_what_is_noted_is_the_cross_entropy_of_the_images_as_they_were_shown(
    tiny: Recipe, mixed: bool
) -> None:
    recipe = tiny.with_(
        sampling=HARD, accumulate=2, augment=AugmentSpec(mixup=MixUp(alpha=1.0) if mixed else None)
    )
    engine = Engine.start(recipe.engine)
    built = assemble(recipe, engine)
    noted: list[tuple[torch.Tensor, torch.Tensor]] = []
    real = built.state.losses.note

    def note(batch: Batch, logits: torch.Tensor) -> None:
        expected = F.cross_entropy(logits.detach().double(), (
            batch.targets.double() if batch.targets.dim() == 2 else batch.targets
        ), reduction="none")  # fmt: skip
        noted.append((batch.index, expected))
        assert (batch.targets.dim() == 2) == mixed
        real(batch, logits)

    built.state.losses.note = note  # type: ignore[method-assign]
    for _ in fit(built.state, built.task, engine):
        pass
    expected = torch.zeros(len(built.splits.train), dtype=torch.float64)
    for index, values in noted:
        expected[index] = values
    losses = built.state.losses
    assert isinstance(losses, ImageLosses)
    assert losses.round > 1
    assert (losses.last > 0).all()
    assert torch.allclose(losses.last.double(), expected, atol=1e-6)


def test_hardest_is_a_part_of_share() -> None:
    with pytest.raises(ValueError, match=r"got hardest 0\.5 and share 0\.2"):
        Hard(share=0.2, hardest=0.5)


def test_several_processes_are_refused(tmp_path: Path) -> None:
    words = ["train", "digits", "--sampling.name", "hard", "--engine.procs", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "pellucid", *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "train in one process, or take --sampling.name shuffled" in done.stderr
    assert not list(tmp_path.iterdir())
