"""Small pictures as `data:` addresses, so that a page needs no other file."""

from __future__ import annotations

import base64
import io

import torch
from PIL import Image
from torch import Tensor, nn

MOST = 72
"""Pixels of the longer side; larger images are made smaller."""


def tile(image: Tensor) -> str:
    """Return an image as a `data:` address of a PNG; the same text for the same pixels.

    Args:
        image: uint8 (C, H, W), C is 1 or 3.
    """
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if max(picture.size) > MOST:
        picture.thumbnail((MOST, MOST), Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def filters(network: nn.Module, most: int = 64) -> list[str]:
    """Return the kernels of the first convolution as pictures; none if they cannot be shown.

    Of one input channel in grey, of three in colour; middle grey is 0, and the largest weight of
    the layer, by size, is black or white. So kernels can be compared with each other.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach().float().cpu()
            if weight.shape[1] not in (1, 3) or weight.shape[2] * weight.shape[3] == 1:
                return []
            largest = float(weight.abs().max()) or 1.0
            shown = (127.5 + 127.5 * weight[:most] / largest).round().clamp(0, 255)
            return [tile(kernel) for kernel in shown.to(torch.uint8)]
    return []
