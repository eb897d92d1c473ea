"""The loss, as a value in a recipe."""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch.nn.functional as F
from torch import Tensor


class CrossEntropy(
    msgspec.Struct, frozen=True, tag_field="name", tag="cross-entropy", forbid_unknown_fields=True
):
    """Mean cross-entropy of logits against labels, in nats.

    Args:
        label_smoothing: share of each target that is spread over all classes, in [0, 1).
    """

    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the batch, a 0-d tensor, of logits (B, K) and targets (B,)."""
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
