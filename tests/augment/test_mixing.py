"""Two images become two others, and their labels with them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from pellucid.augment.mixing import CutMix, MixUp, partners, soft
from pellucid.augment.pipeline import AugmentSpec
from pellucid.seeds import generator
from pellucid.values import Batch
from tests.augment import twin
from tests.augment.samples import CLASSES, batch_of

COLOUR = (3, 32, 32)


def draws() -> torch.Generator:
    return generator(0, "test")


def mixed(spec: AugmentSpec, images: Tensor, step: int = 0) -> Batch:
    return spec.build(0, lambda x: x.float() / 255, CLASSES)(batch_of(images), step)


def test_mixup_is_the_twins_for_each_pair(photos: Tensor) -> None:
    """The twin draws one share for a batch, and rolls it by one: of two images it swaps them."""
    spec = AugmentSpec(mixup=MixUp(alpha=1.0))
    whole = mixed(spec, photos)
    kept = spec.draws(0, 0, len(photos), COLOUR)["mixup"]
    plain = batch_of(photos)
    theirs = twin.MixUp(num_classes=CLASSES)
    for k in range(0, len(photos), 2):
        labels = plain.targets[k : k + 2]
        options = {"lam": float(kept[k]), "labels": labels, "batch_size": 2}
        images = theirs.transform(plain.images[k : k + 2].float() / 255, options)
        assert torch.allclose(whole.images[k : k + 2], images, rtol=0, atol=2e-7)
        targets = theirs.transform(labels, options)
        assert torch.allclose(whole.targets[k : k + 2], targets, rtol=0, atol=2e-7)


def test_cutmix_is_the_twins_for_each_pair(photos: Tensor) -> None:
    spec = AugmentSpec(cutmix=CutMix(p=0.8))
    whole = mixed(spec, photos)
    boxes = spec.draws(0, 0, len(photos), COLOUR)["cutmix"]
    plain = batch_of(photos)
    theirs = twin.CutMix(num_classes=CLASSES)
    for k in range(0, len(photos), 2):
        top, left, bottom, right = boxes[k].tolist()
        labels = plain.targets[k : k + 2]
        options = {
            "box": (left, top, right, bottom),
            "lam_adjusted": 1 - (right - left) * (bottom - top) / 1024,
            "labels": labels,
            "batch_size": 2,
        }
        images = theirs.transform(plain.images[k : k + 2].float() / 255, options)
        assert torch.equal(whole.images[k : k + 2], images)
        targets = theirs.transform(labels, options)
        assert torch.allclose(whole.targets[k : k + 2], targets, rtol=0, atol=2e-7)


def test_the_targets_of_cutmix_are_the_true_area(photos: Tensor) -> None:
    """Counted in pixels: one of each pair is all 0, the other all 1."""
    images = torch.zeros_like(photos)
    images[1::2] = 255
    whole = mixed(AugmentSpec(cutmix=CutMix(p=1)), images)
    own = whole.targets.gather(1, batch_of(photos).targets.unsqueeze(1)).squeeze(1)
    ones = whole.images.mean((1, 2, 3))
    assert torch.allclose(own[::2], 1 - ones[::2], atol=1e-6)
    assert torch.allclose(own[1::2], ones[1::2], atol=1e-6)
    assert len(own.unique()) > 20


def test_a_pair_shows_in_total_what_it_showed(photos: Tensor) -> None:
    spec = AugmentSpec(mixup=MixUp(alpha=0.5), cutmix=CutMix(p=0.5))
    whole = mixed(spec, photos)
    before = photos.float() / 255
    total = whole.images[::2] + whole.images[1::2]
    assert torch.allclose(total, before[::2] + before[1::2], atol=1e-5)
    labels = F.one_hot(batch_of(photos).targets, CLASSES).float()
    total = whole.targets[::2] + whole.targets[1::2]
    assert torch.allclose(total, labels[::2] + labels[1::2], atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        AugmentSpec(mixup=MixUp(alpha=1)),
        AugmentSpec(cutmix=CutMix()),
        AugmentSpec(mixup=MixUp(alpha=1), cutmix=CutMix(p=1)),
    ],
)
def test_soft_targets_are_shares(spec: AugmentSpec, photos: Tensor) -> None:
    batch = mixed(spec, photos[:59])
    assert batch.targets.dtype == torch.float32
    assert batch.targets.shape == (59, CLASSES)
    assert float(batch.targets.min()) >= 0
    assert torch.allclose(batch.targets.sum(1), torch.ones(59), atol=1e-6)
    assert int((batch.targets > 0).sum(1).max()) == 2


def test_a_last_odd_image_stays_as_it_is(photos: Tensor) -> None:
    spec = AugmentSpec(mixup=MixUp(alpha=1), cutmix=CutMix(p=1))
    for size in (1, 3, 7):
        batch = mixed(spec, photos[:size])
        assert torch.equal(batch.images[-1], photos[size - 1].float() / 255)
        assert int(batch.targets[-1].argmax()) == (size - 1) % CLASSES
        assert float(batch.targets[-1].max()) == 1


def test_both_on_is_one_after_the_other(photos: Tensor) -> None:
    both = AugmentSpec(mixup=MixUp(alpha=1, p=0.6), cutmix=CutMix(p=0.6))
    after_mixup = mixed(AugmentSpec(mixup=both.mixup), photos)
    assert both.cutmix is not None
    draw = both.draws(0, 0, len(photos), COLOUR)["cutmix"]
    partner = torch.arange(len(photos)) ^ 1
    images, targets = both.cutmix.apply(after_mixup.images, after_mixup.targets, draw, partner)
    whole = mixed(both, photos)
    assert torch.equal(whole.images, images)
    assert torch.equal(whole.targets, targets)


def test_shares_are_drawn_from_beta() -> None:
    for alpha in (0.2, 1.0, 3.0):
        kept = MixUp(alpha=alpha).draw(4000, COLOUR, draws())[::2]
        assert stats.kstest(kept.double().numpy(), "beta", (alpha, alpha)).pvalue > 0.001
    kept = MixUp(alpha=1, p=0.3).draw(4000, COLOUR, draws())[::2]
    assert stats.binomtest(int((kept != 1).sum()), 2000, 0.3).pvalue > 0.001


def test_rectangles_of_cutmix_have_the_share_that_was_drawn() -> None:
    """Seen where no border cuts off: share 1 - (side / whole) squared, evenly drawn."""
    draw = CutMix(p=1).draw(40000, (3, 4000, 4000), draws())[::2]
    top, left, bottom, right = draw.double().unbind(1)
    middle = (top > 0) & (bottom < 4000) & (left > 0) & (right < 4000)
    assert torch.equal((bottom - top)[middle], (right - left)[middle])
    # a side fits when its centre is that far from both borders: two independent chances of 1 - side
    side = (bottom - top)[middle] / 4000
    weight = (1 - side) ** -2  # undoes that larger ones fit less often
    small = side < 0.5
    area = (weight * side**2)[small].sum() / weight[small].sum()
    assert abs(float(area) - 0.125) < 0.005  # the mean of an even draw from 0 to 0.25
    hits = int((CutMix(p=0.4).draw(8000, (3, 4000, 4000), draws())[::2, 2] > 0).sum())
    assert stats.binomtest(hits, 4000, 0.4).pvalue > 0.001


def test_partners_in_a_piece() -> None:
    assert partners(torch.arange(6), 6).tolist() == [1, 0, 3, 2, 5, 4]
    assert partners(torch.tensor([4, 5, 6]), 7).tolist() == [1, 0, 2]
    assert partners(torch.tensor([5, 2, 3, 4]), 8).tolist() == [3, 2, 1, 0]
    with pytest.raises(AssertionError, match="even rows"):
        partners(torch.tensor([2, 3, 4]), 6)


def test_soft_targets_are_one_at_the_label_and_have_the_same_loss() -> None:
    labels = torch.tensor([3, 0, 9])
    targets = soft(labels, CLASSES)
    assert torch.equal(targets, F.one_hot(labels, CLASSES).float())
    assert soft(targets, CLASSES) is targets
    logits = torch.randn(3, CLASSES, generator=draws())
    assert torch.allclose(F.cross_entropy(logits, targets), F.cross_entropy(logits, labels))


def test_the_number_of_classes_has_to_be_known() -> None:
    with pytest.raises(AssertionError, match="number of classes"):
        AugmentSpec(mixup=MixUp()).build(0, lambda x: x)
