"""The loss, as a value in a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.values import Loss

Weight = Annotated[float, msgspec.Meta(ge=0)]


class CrossEntropy(
    msgspec.Struct, frozen=True, tag_field="name", tag="cross-entropy", forbid_unknown_fields=True
):
    """Mean cross-entropy of logits against labels, in nats.

    Args:
        label_smoothing: share of each target that is spread over all classes, in [0, 1).
        class_weights: how much an image of each class counts: `none`, all alike; `balanced`,
            inversely to the number of its training images; or one number for each class.
    """

    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] | tuple[Weight, ...] = "none"

    def build(self, counts: Tensor, device: torch.device) -> Loss:
        """Return the function (logits, targets) -> mean loss.

        The weights are scaled so that their mean over the training images is 1, and the sum is
        divided by the number of images, not by the sum of their weights as PyTorch's mean is: so
        the pieces of a step add up to the loss of the whole, and the loss keeps its size.

        Args:
            counts: number of training images of each class, int64 (K,).
            device: where the logits will be.

        Raises:
            ValueError: if the weights do not fit the classes.
        """
        if self.class_weights == "none":
            smoothing = self.label_smoothing
            return lambda logits, targets: F.cross_entropy(
                logits, targets, label_smoothing=smoothing
            )
        weights = self._weights(counts.double())
        weights = (weights * counts.sum() / (weights * counts).sum()).float().to(device)

        def loss(logits: Tensor, targets: Tensor) -> Tensor:
            total = F.cross_entropy(
                logits, targets, weights, reduction="sum", label_smoothing=self.label_smoothing
            )
            return total / len(targets)

        return loss

    def _weights(self, counts: Tensor) -> Tensor:
        if self.class_weights == "balanced":
            return 1 / counts.clamp(min=1)
        given = torch.tensor(self.class_weights, dtype=torch.float64)
        if len(given) != len(counts) or not (given * counts).sum() > 0:
            raise ValueError(
                f"loss.class_weights needs one number for each of the {len(counts)} classes, not "
                f"all 0; got {len(given)}: {list(self.class_weights)}"
            )
        return given
