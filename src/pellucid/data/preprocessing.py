"""From stored pixels to the network's input. It travels with every checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import torch
from torch import Tensor

from pellucid.values import ImageSet

CHUNK = 2000
"""Images per pass over the pixels: bounds the memory of the statistics."""


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scales pixels to [0, 1], then each channel to mean 0 and standard deviation 1.

    Args:
        shape: channels, height and width that the network was built for.
        mean: of each channel, on the scale [0, 1], over the training part only.
        std: likewise.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def measure(cls, data: ImageSet) -> Preprocessing:
        """Return the preprocessing with the statistics of all pixels of `data`.

        Exact: the pixels are counted by value, in integers. A channel that never varies gets
        standard deviation 1.

        >>> from pellucid.values import ImageSet
        >>> pixels = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
        >>> Preprocessing.measure(ImageSet.of(pixels, torch.zeros(1).long(), ("a",), "x")).mean
        (0.5,)
        """
        counts = torch.zeros(data.shape[0], 256, dtype=torch.int64)
        for index in torch.arange(len(data)).split(CHUNK):
            pixels = data.pixels(index)
            for channel in range(len(counts)):
                counts[channel] += torch.bincount(pixels[:, channel].flatten(), minlength=256)
        values = torch.arange(256, dtype=torch.float64) / 255
        share = counts.double() / counts.sum(1, keepdim=True)
        mean = (share * values).sum(1)
        variance = (share * (values - mean[:, None]) ** 2).sum(1)
        std = torch.where(variance > 0, variance, 1.0).sqrt()
        return cls(data.shape, tuple(mean.tolist()), tuple(std.tolist()))

    def on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return the function that does it on `device`.

        It takes uint8 images (B, C, H, W) and returns float32 of the same shape, in
        channels-last layout; the type and the layout change in one pass.
        """
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=device).view(-1, 1, 1)
        pairs = zip(self.mean, self.std, strict=True)
        shift = torch.tensor([-m / s for m, s in pairs], device=device).view(-1, 1, 1)

        def prepare(images: Tensor) -> Tensor:
            x = images.to(torch.float32, memory_format=torch.channels_last)
            return x.mul_(scale).add_(shift)

        return prepare

    def undo(self, images: Tensor) -> Tensor:
        """Return normalised `images` (B, C, H, W) on the scale [0, 1] again, clamped to it."""
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        return (images * std + mean).clamp(0, 1)
