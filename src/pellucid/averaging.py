"""Test-time augmentation: several views of each image, and the mean of what a network says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.errors import BadRecipe, did_you_mean

Views = Literal["one", "flip", "shift", "flip-shift"]
"""`one`: the image as it is; `flip`: and its mirror image; `shift`: and moved by one pixel each
way, with its border repeated; `flip-shift`: all of these, and the mirror images of the moved."""

SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
"""Down and right, in pixels."""


class Averaged(nn.Module):
    """A network that is asked about several views of each image.

    The logits are averaged with equal weights: the geometric mean of the probabilities
    (Krizhevsky et al., 2012, average over ten views likewise).

    Args:
        network: gives logits (B, classes) for images (B, C, H, W).
        views: which; see `Views`.

    Raises:
        BadRecipe: if there are no such views.

    >>> import torch
    >>> Averaged(nn.Flatten(), "flip")(torch.tensor([[[[1.0, 3.0]]]]))
    tensor([[2., 2.]])
    """

    def __init__(self, network: nn.Module, views: str) -> None:
        super().__init__()
        if views not in get_args(Views):
            raise BadRecipe(
                f"The views are {', '.join(get_args(Views))}. "
                f'Got "{views}"{did_you_mean(views, get_args(Views)) or "."}'
            )
        self.network = network
        shifts = SHIFTS if "shift" in views else SHIFTS[:1]
        moves: list[Callable[[Tensor], Tensor]] = [_move(*shift) for shift in shifts]
        mirrors = [_mirrored(move) for move in moves] if "flip" in views else []
        self.views = [*moves, *mirrors]

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean of the logits (B, classes) over all views of `images` (B, C, H, W)."""
        total: Tensor = sum(self.network(view(images)) for view in self.views)
        return total / len(self.views)


def _move(down: int, right: int) -> Callable[[Tensor], Tensor]:
    """Return the function that moves images; what comes in repeats the border."""
    if not (down or right):
        return lambda images: images

    def move(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
        top, left = 1 - down, 1 - right
        return padded[:, :, top : top + height, left : left + width]

    return move


def _mirrored(move: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: move(images.flip(3))
