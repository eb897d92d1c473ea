"""First filters that whiten the images' patches; identity for all later convolutions."""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
from torch import Tensor, nn


class Whitening(msgspec.Struct, frozen=True, tag_field="name", tag="whitening",
                forbid_unknown_fields=True):  # fmt: skip
    """The first convolution's filters from the images, and kept; identity for the later ones.

    The filters are the eigenvectors of the covariance of patches of training images, each over
    the root of its eigenvalue, and then the same with the other sign: what they give is
    uncorrelated and of one scale (Page, "How to train your ResNet 8: bag of tricks", 2019).
    Filters that are left over keep their own draws; if there are more eigenvectors than half the
    filters, the strongest are taken. The weights of that layer are not trained, its bias is.

    Args:
        identity: let each later convolution of odd size begin as the identity on as many channels
            as it can (Zagoruyko and Komodakis, 2017, "DiracNets"); the others keep their draws.
        eps: added to each eigenvalue, as a share of the largest, so that directions that hardly
            occur are not blown up.
    """

    identity: bool = True
    eps: Annotated[float, msgspec.Meta(ge=0, le=1)] = 5e-3

    def apply(self, model: nn.Module) -> None:
        """Keep the first convolution from training, and draw the others.

        Raises:
            ValueError: if the model has no convolution.
        """
        first, *later = _convolutions(model)
        first.weight.requires_grad_(False)
        if self.identity:
            for layer in later:
                if layer.groups == 1 and all(side % 2 for side in layer.kernel_size):
                    with torch.no_grad():
                        nn.init.dirac_(layer.weight[: layer.in_channels])

    def see(self, model: nn.Module, images: Tensor) -> None:
        """Set the first convolution's filters.

        Args:
            model: whose weights were drawn.
            images: training images as the network gets them, float (N, C, H, W).
        """
        layer = _convolutions(model)[0]
        values, vectors = whitening(images, layer.kernel_size[0], layer.kernel_size[1])
        count = min(len(values), layer.out_channels // 2)
        filters = vectors[:count] / (values[:count, None] + self.eps * values[0]).sqrt()
        filters = filters.view(count, *layer.weight.shape[1:]).to(layer.weight)
        with torch.no_grad():
            layer.weight[:count] = filters
            layer.weight[count : 2 * count] = -filters
            if layer.bias is not None:
                layer.bias.zero_()


def whitening(images: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return variances (C h w), falling, and directions (C h w, C h w), a row each, of patches.

    Args:
        images: float (N, C, H, W), of mean 0.
        height: h, of a patch.
        width: w, of a patch.

    >>> values, vectors = whitening(torch.randn(8, 1, 9, 9), 2, 2)
    >>> values.shape, vectors.shape
    (torch.Size([4]), torch.Size([4, 4]))
    """
    size = images.shape[1] * height * width
    total = torch.zeros(size, size, dtype=torch.float64)
    count = 0
    for some in images.split(100):  # bounds the memory
        patches = some.cpu().unfold(2, height, 1).unfold(3, width, 1)  # (n, C, y, x, h, w)
        rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, size)
        total += (rows.T @ rows).double()
        count += len(rows)
    values, vectors = torch.linalg.eigh(total / count)
    vectors = vectors.T.flip(0)
    # an eigenvector has no sign of its own: the largest part is positive, on every machine
    peaks = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return values.flip(0).clamp(min=0), vectors * peaks.sign()


def _convolutions(model: nn.Module) -> list[nn.Conv2d]:
    found = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    if not found:
        raise ValueError(
            "init.name whitening sets the filters of the first convolution, and this model has "
            "none. Take another init, or model.name fast-cnn"
        )
    return found
