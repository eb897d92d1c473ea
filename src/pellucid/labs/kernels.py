"""Kernels made by hand, on a real image: blur, sharpen, edges."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.data.digits import Digits
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _kernels() -> dict[str, Tensor]:
    mean = torch.full((5, 5), -1 / 25, dtype=torch.float64)
    mean[2, 2] += 2
    sobel = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64)
    prewitt = torch.tensor([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]], dtype=torch.float64)
    around = torch.full((3, 3), -1.0, dtype=torch.float64)
    around[1, 1] = 8
    return {
        "blur": torch.full((3, 3), 1 / 9, dtype=torch.float64),
        "sharpen": mean,
        "sobel-x": sobel,
        "sobel-y": sobel.T.contiguous(),
        "prewitt-x": prewitt,
        "prewitt-y": prewitt.T.contiguous(),
        "outline": around,
    }


KERNELS = _kernels()
"""By name: blur 3x3 of 1/9; sharpen 5x5, twice the pixel less the mean; slopes; all sides."""


@lab
def run(
    *,
    digit: Annotated[int, ranged("which digit the image shows", 0, 9)] = 4,
    sample: Annotated[int, ranged("which image of that digit", 0, 99)] = 0,
    kernel: Annotated[
        Literal["blur", "sharpen", "sobel-x", "sobel-y", "prewitt-x", "prewitt-y", "outline"],
        about("the one whose numbers are shown"),
    ] = "sobel-x",
) -> LabResult:
    """Slide kernels over a digit, and tell by their sums what they do."""
    image = _image(digit, sample)
    maps = {name: apply(image, weights) for name, weights in KERNELS.items()}
    weights = KERNELS[kernel]
    lines = "\n".join(
        "            " + "  ".join(f"{value:6.3g}" for value in row) for row in weights.tolist()
    )
    text = f"""
        A kernel is a small picture of what it looks for: its answer is large where the image looks
        like it. Here an image of a {digit}, 28x28, grey values from 0 to 1. The kernel {kernel}:

{lines}

        The sum of the weights tells the kind. It is what a constant area is multiplied by: with sum
        1 the area stays as it is, with sum 0 it becomes 0 and only changes are seen. Here the sum
        is {float(weights.sum()):.3g}, and the map goes from {float(maps[kernel].min()):.3g} to {
        float(maps[kernel].max()):.3g}.

        Blur replaces a pixel by the mean of nine. Sharpen takes twice the pixel less the mean of
        25: what the blur took away is added. A positive centre with negative surround sharpens only
        if the sum is 1; with sum 0, as in outline, it finds edges. Sobel and Prewitt are slopes:
        brighter on one side than on the other. Sobel weights the middle row twice, and so is the
        better of the two at slanted edges. The length of both slopes does not ask for the
        direction.

        A network learns such kernels itself: its weights start at random.
    """
    rows = [
        (name, float(w.sum()), float(w.abs().sum()), rough(maps[name]), float(maps[name].min()),
         float(maps[name].max()))
        for name, w in KERNELS.items()
    ]  # fmt: skip
    head = ("kernel", "sum", "sum of sizes", "roughness", "lowest", "highest")
    title = f"Roughness: mean step between neighbours; the image itself: {rough(image):.4g}"
    claims = [*_sums(), *_slopes(), *_digit(image, maps), *_border()]
    return LabResult(
        text, claims, partial(_draw, image, maps, kernel), [Table(head, rows, title)],
        {"map": maps[kernel].tolist()},
    )  # fmt: skip


def apply(image: Tensor, weights: Tensor) -> Tensor:
    """Return the map of an image (H, W); the border is repeated outwards, so the size stays."""
    edge = weights.shape[0] // 2
    padded = F.pad(image[None, None], [edge] * 4, mode="replicate")
    return F.conv2d(padded, weights[None, None])[0, 0]


def rough(image: Tensor) -> float:
    """Return the mean size of the step from a pixel to its neighbour."""
    across, down = image.diff(dim=1).abs().mean(), image.diff(dim=0).abs().mean()
    return float((across + down) / 2)


def length(image: Tensor, kind: str) -> Tensor:
    """Return the length of the slope at each pixel."""
    return torch.hypot(apply(image, KERNELS[f"{kind}-x"]), apply(image, KERNELS[f"{kind}-y"]))


def _image(digit: int, sample: int) -> Tensor:
    part = Digits().load().test
    assert part is not None
    place = int((part.labels == digit).nonzero()[sample])
    return part.images[place, 0].double() / 255


def _sums() -> list[Claim]:
    flat = torch.full((12, 12), 0.7, dtype=torch.float64)
    kept = [float((apply(flat, KERNELS[n]) - 0.7).abs().max()) for n in ("blur", "sharpen")]
    others = [name for name in KERNELS if name not in ("blur", "sharpen")]
    gone = [float(apply(flat, KERNELS[name]).abs().max()) for name in others]
    return [
        at_most("Sum 1: blur and sharpen leave a constant area as it is", max(kept), 1e-12,
                "T3.25"),
        at_most("Sum 0: slopes and outline make it 0", max(gone), 1e-12, "T3.25"),
        is_true("Outline has a positive centre and negative surround, and yet does not sharpen",
                KERNELS["outline"][1, 1] > 0 and KERNELS["outline"].sum() == 0, "T3.25"),
        at_most("A weight of the blur is 1/9", (KERNELS["blur"] - 1 / 9).abs().max(), 1e-15),
    ]  # fmt: skip


def _slopes() -> list[Claim]:
    """Return what the kernels of edges say about ramps, whose slope is known."""
    across = torch.arange(10, dtype=torch.float64).expand(10, 10)
    inner = (slice(2, -2), slice(2, -2))
    found = {
        (kind, axis): apply(across if axis == "x" else across.T, KERNELS[f"{kind}-{axis}"])[inner]
        for kind in ("sobel", "prewitt")
        for axis in "xy"
    }
    smooth = torch.tensor([1.0, 2, 1], dtype=torch.float64)
    step = torch.tensor([-1.0, 0, 1], dtype=torch.float64)
    return [
        equals("A ramp of slope 1: Sobel says 8", found["sobel", "x"].mean(), 8, 1e-12),
        equals("downwards as well", found["sobel", "y"].mean(), 8, 1e-12),
        equals("and Prewitt 6", found["prewitt", "x"].mean(), 6, 1e-12),
        at_most("Sobel-y does not see a ramp from left to right",
                apply(across, KERNELS["sobel-y"])[inner].abs().max(), 0),
        agrees("Sobel is a blur (1, 2, 1) along the edge times a step (-1, 0, 1) across it",
               torch.outer(smooth, step), KERNELS["sobel-x"], 0),
    ]  # fmt: skip


def _digit(image: Tensor, maps: dict[str, Tensor]) -> list[Claim]:
    mirrored = apply(image.flip(1), KERNELS["sobel-x"])
    by_hand = image[13:16, 13:16] * KERNELS["sobel-x"]
    return [
        equals("The map at (14, 14) is the sum of nine products", maps["sobel-x"][14, 14],
               by_hand.sum(), 1e-12),
        at_most("Blur makes the digit smoother: roughness", rough(maps["blur"]),
                0.95 * rough(image)),
        at_least("sharpen makes it rougher", rough(maps["sharpen"]), 1.05 * rough(image)),
        agrees("Sobel-x of the mirrored digit is its mirrored map with the other sign", mirrored,
               -maps["sobel-x"].flip(1), 1e-12),
        equals("Along a row the slopes add up to nothing: black on both sides",
               maps["sobel-x"].sum(), 0, 1e-9),
    ]  # fmt: skip


def _border() -> list[Claim]:
    white = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    framed = F.conv2d(white, KERNELS["sobel-x"][None, None], padding=1)[0, 0].abs()
    return [
        equals("Zeros around a white image are an edge to Sobel: at the border", framed[4, 0], 4,
               1e-12, "T1.8"),
        equals("inside", framed[1:-1, 1:-1].max(), 0, 1e-12),
    ]  # fmt: skip


def _draw(image: Tensor, maps: dict[str, Tensor], kernel: str) -> Figure:
    from pellucid.labs.drawing import RED, sheet

    figure, axes = sheet("Kernels on a real image (blue: below 0, red: above 0)", 5, 2,
                         size=(13, 6))  # fmt: skip
    shown = {"the image": image, **maps, "length of Sobel's slope": length(image, "sobel"),
             f"weights of {kernel}": KERNELS[kernel]}  # fmt: skip
    for axis, (name, values) in zip(axes, shown.items(), strict=True):
        top = float(values.abs().max())
        signed = float(values.min()) < 0
        picture = axis.imshow(
            values.numpy(),
            cmap="coolwarm" if signed else "gray",
            vmin=-top if signed else 0,
            vmax=top,
        )
        figure.colorbar(picture, ax=axis, shrink=0.7)
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, fontsize=10, color=RED if name == kernel else "black")
    weights = KERNELS[kernel]
    for i, row in enumerate(weights.tolist()):
        for j, value in enumerate(row):
            dark = abs(value) > 0.7 * float(weights.abs().max()) and float(weights.min()) < 0
            axes[-1].text(j, i, f"{value:.2g}", ha="center", va="center", fontsize=8,
                          color="white" if dark else "black")  # fmt: skip
    return figure
