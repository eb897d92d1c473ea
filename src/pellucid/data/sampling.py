"""Which training images an epoch shows, and in which order, as a value in a recipe."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor


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
