"""Why convolutional networks: few weights, near inputs, the same weights at every place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.data.digits import Digits
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@lab
def run(
    *,
    digit: Annotated[int, ranged("which digit is shifted", 0, 9)] = 5,
    shift: Annotated[int, ranged("pixels to the right and down", 1, 6)] = 3,
    layers: Annotated[int, ranged("3x3 layers, for the receptive field", 1, 8)] = 3,
    seed: Annotated[int, ranged("of the weights", 0, 10**6)] = 0,
) -> LabResult:
    """Count weights, find what a unit sees, and shift an image."""
    counts = {name: count(net) for name, net in nets().items()}
    field = seen(layers)
    image = _digit(digit)
    kernel = torch.randn(1, 1, 3, 3, generator=generator(seed, "lab"), dtype=torch.float64)
    before, after = F.conv2d(image, kernel), F.conv2d(shifted(image, shift), kernel)
    text = f"""
        A dense layer from the 784 pixels of a digit to 500 units has 784 * 500 = 392,000 weights,
        and 500 biases. A 3x3 kernel has 9 weights and 1 bias: 10 numbers, for an image of any size.

        The saving must not be overdrawn: "390,000 become 60,000" sets one dense layer against the
        whole of LeNet-5, which has {counts["LeNet-5"]:,}. Layer against layer, with the same input
        and the same output: from 28x28 to six maps of 28x28 a dense layer has 784 * 4,704 =
        3,687,936 weights, a 5x5 convolution 150. Most numbers of LeNet-5 are in its dense layers.

        Three ideas do it. Local: a unit sees only its neighbourhood; {layers} layers of 3x3 see
        {field}x{field}. Shared: all places use the same weights, so what was learned at one place
        is known at all. And therefore equivariant: if the image moves by {shift}, the map moves by
        {shift}; it does not stay as it was. Only pooling over all places makes the answer the same.

        A convolution is a dense layer whose matrix has zeros where inputs are far, and equal
        numbers along its diagonals. It is right where neighbours belong together. Where the order
        of the inputs means nothing, as in a table, it is wrong.
    """
    rows = [(name, counts[name]) for name in counts]
    claims = [
        *_counts(counts), *_local(layers, field), *_shift(image, shift, before, after),
        *_matrix(kernel), *_shuffled(image, seed),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, image, shifted(image, shift), before, after, layers),
        [Table(("network or layer", "numbers to learn"), rows)], {"parameters": counts},
    )  # fmt: skip


def nets() -> dict[str, nn.Module]:
    """Return the layers and networks that are compared."""
    lenet = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip
    return {
        "dense 784 to 500, no bias": nn.Linear(784, 500, bias=False),
        "dense 784 to 500": nn.Linear(784, 500),
        "dense 784-500-10": nn.Sequential(nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 10)),
        "convolution 3x3, one kernel": nn.Conv2d(1, 1, 3),
        "convolution 5x5 to 6 maps, no bias": nn.Conv2d(1, 6, 5, padding=2, bias=False),
        "LeNet-5": lenet,
        "of them in its convolutions": nn.ModuleList([lenet[0], lenet[3]]),
    }


def count(net: nn.Module) -> int:
    """Return how many numbers a network has to learn."""
    return sum(p.numel() for p in net.parameters())


def seen(layers: int, kernel: int = 3) -> int:
    """Return the side of what a unit sees after so many layers of stride 1."""
    return 1 + layers * (kernel - 1)


def shifted(image: Tensor, by: int) -> Tensor:
    """Return the image moved to the right and down, black coming in."""
    return F.pad(image, (by, 0, by, 0))[..., : image.shape[-2], : image.shape[-1]]


def influence(layers: int) -> Tensor:
    """Return which pixels a unit in the middle reacts to: its gradient, (33, 33)."""
    image = torch.rand(1, 1, 33, 33, generator=generator(0, "lab"), dtype=torch.float64)
    image.requires_grad_()
    out = image
    for _ in range(layers):
        out = F.conv2d(out, torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64), padding=1)
    (slope,) = torch.autograd.grad(out[0, 0, 16, 16], image)
    return slope[0, 0]


def _digit(digit: int) -> Tensor:
    part = Digits().load().test
    assert part is not None
    image = part.images[int((part.labels == digit).nonzero()[0])].double() / 255
    return F.pad(image[None], (4, 4, 4, 4))


def _counts(counts: dict[str, int]) -> list[Claim]:
    return [
        equals("784 to 500: weights", counts["dense 784 to 500, no bias"], 392_000, 0),
        equals("3x3 and a bias", counts["convolution 3x3, one kernel"], 10, 0, "T3.3"),
        equals("LeNet-5 as a whole", counts["LeNet-5"], 61_706, 0, "T3.30"),
        at_least("Layer against layer: dense weights for each one of the 5x5 convolution",
                 784 * 4704 / counts["convolution 5x5 to 6 maps, no bias"], 24_000, "T3.30"),
        at_least("Of LeNet-5's numbers, the share in dense layers",
                 1 - counts["of them in its convolutions"] / counts["LeNet-5"], 0.95),
    ]  # fmt: skip


def _local(layers: int, field: int) -> list[Claim]:
    rows = (influence(layers) != 0).any(1).sum()
    two, one = 2 * 3 * 3, 5 * 5
    return [
        equals(f"The side of the area with a gradient, after {layers} layers", rows, field, 0),
        is_true(
            "Two layers of 3x3 see what one of 5x5 sees, with 18 weights for 25",
            seen(2) == seen(1, 5) and two == 18 and one == 25,
        ),
    ]


def _shift(image: Tensor, shift: int, before: Tensor, after: Tensor) -> list[Claim]:
    dense = torch.randn(1, image.numel(), generator=generator(1, "lab"), dtype=torch.float64)
    moved = shifted(image, shift)
    apart = (dense @ moved.flatten() - dense @ image.flatten()).abs().max()
    return [
        agrees("The image moves, the map moves with it (inside)", before[..., :-shift, :-shift],
               after[..., shift:, shift:], 1e-12, "T3.24"),
        at_least("it does not stay: largest difference at the same place",
                 (before - after).abs().max(), 0.1, "T3.24"),
        agrees("Its maximum over all places stays: pooling over all makes it invariant",
               F.relu(before).amax((2, 3)), F.relu(after).amax((2, 3)), 1e-12, "T3.24"),
        at_least("A dense unit answers something else: difference", apart, 0.05),
    ]  # fmt: skip


def _matrix(kernel: Tensor) -> list[Claim]:
    """Write a convolution of 6x6 as a matrix, and look at it."""
    pixels = torch.eye(36, dtype=torch.float64).view(36, 1, 6, 6)
    matrix = F.conv2d(pixels, kernel, padding=1).view(36, 36).T
    image = torch.rand(1, 1, 6, 6, generator=generator(2, "lab"), dtype=torch.float64)
    return [
        agrees("A convolution is a dense layer with this matrix", matrix @ image.flatten(),
               F.conv2d(image, kernel, padding=1).flatten(), 1e-12),
        equals("which is not 0 in so many of 1,296 places", (matrix != 0).sum(), 16 * 16, 0),
        equals("and has so many different numbers", len(matrix[matrix != 0].unique()), 9, 0),
    ]  # fmt: skip


def _shuffled(image: Tensor, seed: int) -> list[Claim]:
    """A dense layer does not care how pixels are ordered; a convolution does."""
    order = torch.randperm(image.numel(), generator=generator(seed, "lab", 1))
    w = torch.randn(3, image.numel(), generator=generator(3, "lab"), dtype=torch.float64)
    flat = image.flatten()
    return [
        agrees("A dense layer with its weights in the same new order: the same answer",
               w[:, order] @ flat[order], w @ flat, 1e-9, "T3.23"),
    ]  # fmt: skip


def _draw(image: Tensor, moved: Tensor, before: Tensor, after: Tensor, layers: int) -> Figure:
    from pellucid.labs.drawing import sheet

    figure, axes = sheet("Near inputs, shared weights: the map moves with the image", 5,
                         size=(14, 3.6))  # fmt: skip
    top = float(before.abs().max())
    shown = (("image", image, "gray", 0), ("its map", before, "coolwarm", -top),
             ("image, moved", moved, "gray", 0), ("its map", after, "coolwarm", -top))  # fmt: skip
    for axis, (title, values, cmap, low) in zip(axes, shown, strict=False):
        axis.imshow(values[0, 0].numpy(), cmap=cmap, vmin=low, vmax=top if low else 1)
        axis.set_title(title)
    slope = influence(layers)
    picture = axes[4].imshow(slope.numpy(), cmap="gray_r")
    figure.colorbar(picture, ax=axes[4], shrink=0.7, label="gradient")
    axes[4].set_title(f"seen after {layers} layers: {seen(layers)}x{seen(layers)}")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure
