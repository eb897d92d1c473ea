"""Two images become two others, and their labels with them.

Rows 2k and 2k + 1 of the step's whole batch are partners; their order is shuffled anyway. A last
odd row has none and stays as it is. Each of the two gets the other one's part, so what a pair shows
in total does not change.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
import torch
from torch import Tensor

from pellucid.augment.rows import Shape, inside, per_image, put, rows_of

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Alpha = Annotated[float, msgspec.Meta(ge=0.01, le=100)]


class MixUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Makes of two images, and of their labels, a weighted mean.

    Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization". The share `s` that an image
    keeps is drawn from Beta(alpha, alpha), once for each pair.

    Args:
        alpha: near 0 hardly anything is mixed, at 1 all shares are equally likely.
        p: of a pair to be mixed at all.
    """

    alpha: Alpha = 0.2
    p: Probability = 1.0

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return the share of itself that each image keeps, float32 (size,); 1 is unmixed."""
        kept = torch.from_numpy(_beta(self.alpha, -(-size // 2), generator)).float()
        kept[torch.rand(len(kept), generator=generator) >= self.p] = 1
        return _of_pairs(kept, size, alone=torch.tensor(1.0))

    def apply(
        self, images: Tensor, targets: Tensor, draw: Tensor, partner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return images and targets mixed, the images perhaps in place.

        Args:
            images: normalised, (B, C, H, W).
            targets: soft, (B, K).
            draw: (B,).
            partner: the position of each image's partner, int64 (B,), on the CPU.
        """
        changed = draw != 1
        if not changed.any():
            return images, targets
        rows, others = rows_of(changed, images.device), _on(partner[changed], images)
        kept = per_image(draw[changed], images)
        mixed = images[others].mul_(1 - kept).add_(images[rows] * kept)
        return put(images, rows, mixed), _blend(targets, draw, partner)

    def words(self, draw: Tensor) -> str:
        """Return the share of the image itself."""
        return f"mixup {draw:.2f}" if draw != 1 else ""


class CutMix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Replaces a rectangle of an image by the same one of another; the labels follow the area.

    Yun et al. (2019), "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features". The share that an image keeps is drawn from Beta(alpha, alpha), once for each pair;
    the rectangle has the image's shape and its centre may be any pixel. What lies outside is cut
    off, and the targets follow what is left.

    Args:
        alpha: at 1 all shares are equally likely.
        p: of a pair to be mixed at all.
    """

    alpha: Alpha = 1.0
    p: Probability = 0.5

    def draw(self, size: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """Return top, left, bottom, right of each rectangle, int64 (size, 4); empty for none."""
        limits = torch.tensor(shape[1:])
        pairs = -(-size // 2)
        side = torch.from_numpy(np.sqrt(1 - _beta(self.alpha, pairs, generator))).unsqueeze(1)
        centre = (torch.rand(pairs, 2, generator=generator) * limits).long()
        half = (side * limits / 2).long()
        corners = ((centre - half).clamp_(min=0), (centre + half).minimum(limits))
        boxes = torch.cat(corners, 1)
        boxes[torch.rand(pairs, generator=generator) >= self.p] = 0
        return _of_pairs(boxes, size, alone=torch.tensor(0))

    def apply(
        self, images: Tensor, targets: Tensor, draw: Tensor, partner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return images and targets mixed; arguments as for `MixUp`."""
        area = (draw[:, 2] - draw[:, 0]) * (draw[:, 3] - draw[:, 1])
        changed = area > 0
        if not changed.any():
            return images, targets
        rows, others = rows_of(changed, images.device), _on(partner[changed], images)
        box = inside(draw[changed], images)
        mixed = torch.where(box, images[others], images[rows])
        kept = 1 - area / (images.shape[2] * images.shape[3])
        return put(images, rows, mixed), _blend(targets, kept, partner)

    def words(self, draw: Tensor) -> str:
        """Return the size of the rectangle, width x height."""
        top, left, bottom, right = draw.tolist()
        return f"cutmix {right - left}x{bottom - top}" if right > left and bottom > top else ""


def partners(rows: Tensor, size: int) -> Tensor:
    """Return for each image of a piece the position in the piece of its partner, int64 (B,).

    Args:
        rows: (B,) positions of the piece's images in the step's whole batch of `size`.
        size: of the whole batch; with an odd one the last image is its own partner.

    >>> partners(torch.tensor([2, 3, 4]), 5).tolist()
    [1, 0, 2]
    """
    place = torch.full((size,), -1)
    place[rows] = torch.arange(len(rows))
    partner = place[torch.where(rows ^ 1 < size, rows ^ 1, rows)]
    assert (partner >= 0).all(), "a pair was cut in two: pieces have to begin at even rows"
    return partner


def soft(targets: Tensor, classes: int) -> Tensor:
    """Return labels (B,) as float32 (B, classes), 1 at the label; soft ones as they are."""
    if targets.ndim == 2:
        return targets
    zeros = torch.zeros(len(targets), classes, device=targets.device)
    return zeros.scatter_(1, targets.unsqueeze(1), 1)


def _blend(targets: Tensor, kept: Tensor, partner: Tensor) -> Tensor:
    """Return `kept` (B,) of each target and the rest of its partner's."""
    share = kept.to(targets.device, non_blocking=True).unsqueeze(1)
    return (targets * share).add_(targets[_on(partner, targets)] * (1 - share))


def _beta(alpha: float, count: int, generator: torch.Generator) -> np.ndarray:
    """Return `count` numbers from Beta(alpha, alpha); torch has no such draw with a generator."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return np.random.Generator(np.random.PCG64(seed)).beta(alpha, alpha, count)


def _of_pairs(draw: Tensor, size: int, alone: Tensor) -> Tensor:
    """Return what was drawn for each pair for both of its images; `alone` for an odd last one."""
    both = draw.repeat_interleave(2, 0)[:size]
    if size % 2:
        both[-1] = alone
    return both


def _on(index: Tensor, tensor: Tensor) -> Tensor:
    return index.to(tensor.device, non_blocking=True)
