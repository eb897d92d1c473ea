"""The loss: class weights, and that pieces add up to the whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pellucid.optim.losses import CrossEntropy

COUNTS = torch.tensor([60, 30, 10])
CPU = torch.device("cpu")


def batch(n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, generator=draws), torch.randint(3, (n,), generator=draws)


def test_plain_is_torchs() -> None:
    logits, targets = batch()
    assert torch.equal(
        CrossEntropy().build(COUNTS, CPU)(logits, targets), F.cross_entropy(logits, targets)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("given", ["balanced", (1.0, 2.0, 0.5)])
def test_weights_are_torchs_but_for_the_divisor(given, smoothing: float) -> None:  # type: ignore[no-untyped-def]
    """PyTorch's mean divides by the sum of the targets' weights (T5.7); ours by the images."""
    logits, targets = batch()
    ours = CrossEntropy(label_smoothing=smoothing, class_weights=given).build(COUNTS, CPU)
    raw = 1 / COUNTS if given == "balanced" else torch.tensor(given)
    weights = raw * COUNTS.sum() / (raw * COUNTS).sum()
    theirs = F.cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    torch.testing.assert_close(
        ours(logits, targets) * len(targets), theirs * weights[targets].sum()
    )
    assert (weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1.0)


def test_balanced_gives_each_class_the_same_say() -> None:
    """With the images of the training part, each class adds a third of the loss."""
    targets = torch.repeat_interleave(torch.arange(3), COUNTS)
    logits = torch.zeros(100, 3, requires_grad=True)
    CrossEntropy(class_weights="balanced").build(COUNTS, CPU)(logits, targets).backward()
    assert logits.grad is not None
    pull = torch.stack([logits.grad[targets == k, k].sum() for k in range(3)])
    torch.testing.assert_close(pull, torch.full((3,), pull[0].item()))


@pytest.mark.parametrize("given", ["none", "balanced"])
@pytest.mark.parametrize("soft", [False, True])
def test_pieces_add_up_to_the_whole(given, soft: bool) -> None:  # type: ignore[no-untyped-def]
    logits, targets = batch(7)
    target = F.one_hot(targets, 3).float().lerp(torch.tensor(1 / 3), 0.3) if soft else targets
    loss = CrossEntropy(label_smoothing=0.1, class_weights=given).build(COUNTS, CPU)
    pieces = [
        loss(a, b) * len(a) / 7 for a, b in zip(logits.split(3), target.split(3), strict=True)
    ]
    torch.testing.assert_close(sum(pieces), loss(logits, target))


@pytest.mark.parametrize("given", [(1.0, 2.0), (0.0, 0.0, 0.0)])
def test_weights_that_do_not_fit_are_refused(given: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="one number for each of the 3 classes"):
        CrossEntropy(class_weights=given).build(COUNTS, CPU)
