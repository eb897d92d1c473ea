"""Which training images an epoch shows, and in which order, as a value in a recipe."""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
from torch import Tensor

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Shuffled(msgspec.Struct, frozen=True, tag_field="name", tag="shuffled",
               forbid_unknown_fields=True):  # fmt: skip
    """Each image once, in random order."""

    def order(self, labels: Tensor, draws: torch.Generator) -> Tensor:
        """Return the positions of one epoch, int64 (N,), for `labels` (N,)."""
        return torch.randperm(len(labels), generator=draws)


class Balanced(msgspec.Struct, frozen=True, tag_field="name", tag="balanced",
               forbid_unknown_fields=True):  # fmt: skip
    """As many draws as there are images, with replacement; each class is as likely as any other.

    Images of rare classes are seen several times in an epoch, some of frequent ones not at all.
    The same as `torch.utils.data.WeightedRandomSampler` with weights 1 / (images of the class).
    """

    def order(self, labels: Tensor, draws: torch.Generator) -> Tensor:
        """Return the positions of one epoch, int64 (N,), for `labels` (N,)."""
        weights = 1 / torch.bincount(labels).double()
        return torch.multinomial(weights[labels], len(labels), replacement=True, generator=draws)


class Hard(msgspec.Struct, frozen=True, tag_field="name", tag="hard",
           forbid_unknown_fields=True):  # fmt: skip
    """Each image once; then rounds of fewer images, most of them those that are hardest.

    After Jiang et al. (2019), "Accelerating Deep Learning by Focusing on the Biggest Losers". Hard
    are the images whose cross-entropy was highest when they were last shown, as they were shown. It
    saves time where most images are soon learned. Wrong labels stay hard, so they are shown more
    often than others: not for data with many of them.

    An epoch stays as many images as there are; several rounds fit into it.

    Args:
        share: of all images that a later round shows.
        hardest: of all images, those that each later round shows because they are the hardest; the
            rest of a round is drawn from the others, all alike. At most `share`.
    """

    share: Share = 0.33
    hardest: Share = 0.25

    def __post_init__(self) -> None:
        if self.hardest > self.share:
            raise ValueError(
                f"hardest is a part of share, so at most as large; got hardest {self.hardest:g} "
                f"and share {self.share:g}"
            )

    def order(self, labels: Tensor, draws: torch.Generator) -> Tensor:
        """Return the positions of the first round, int64 (N,), for `labels` (N,)."""
        return torch.randperm(len(labels), generator=draws)

    def size(self, images: int) -> int:
        """Return how many of `images` a later round shows; at least 1."""
        return max(1, round(images * self.share))

    def again(self, losses: Tensor, draws: torch.Generator) -> Tensor:
        """Return the positions of a later round, int64, for the `losses` (N,) of all images.

        >>> losses = torch.tensor([0.1, 2.0, 0.1, 0.1])
        >>> order = Hard(share=0.5, hardest=0.25).again(losses, torch.Generator().manual_seed(0))
        >>> len(order), 1 in order
        (2, True)
        """
        hardest, others = losses.argsort(descending=True, stable=True).split(
            [sure := round(len(losses) * self.hardest), len(losses) - sure]
        )
        drawn = others[torch.randperm(len(others), generator=draws)]
        chosen = torch.cat([hardest, drawn])[: self.size(len(losses))]
        return chosen[torch.randperm(len(chosen), generator=draws)]
