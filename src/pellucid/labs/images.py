"""Images as tensors: channels, two scales of grey, three libraries, and who shares memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pellucid.data.digits import Digits
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, equals, is_true

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN, STD = 0.1307, 0.3081
"""Of the pixels of MNIST, on the scale from 0 to 1."""


@lab
def run(
    *,
    red: Annotated[int, ranged("the digit of the red channel", 0, 9)] = 0,
    green: Annotated[int, ranged("the digit of the green channel", 0, 9)] = 4,
    blue: Annotated[int, ranged("the digit of the blue channel", 0, 9)] = 7,
) -> LabResult:
    """Take an image apart into channels, and bring it through three libraries and back."""
    image = _image((red, green, blue))
    there = to_floats(image)
    flat = there.flatten()
    place = 2 * 28 * 28 + 10 * 28 + 14
    pixel = image[:, 14, 14].tolist()
    text = f"""
        A grey image is a table of numbers, height x width. A colour image is three such tables,
        one for red, green and blue. PyTorch puts the channels first: (C, H, W); a batch of 8 is
        (8, 3, 28, 28). PIL and NumPy put them last: (H, W, C). Here three digits are the channels
        of one image. Its pixel in row 14, column 14 has red, green, blue = {pixel}.

        Files hold whole numbers from 0 to 255, uint8. Networks want floats around 0, so two steps
        follow, and they are often taken for one:

            scale:      x / 255          0 ... 255 -> 0 ... 1
            normalise:  (x - mean) / std, mean and std of the training images

        After normalisation with MNIST's {MEAN} and {STD}, black is (0 - {MEAN}) / {STD} = {
        -MEAN / STD:.4f}. Zeros that are padded afterwards are grey, not black.

        The way back multiplies and must round. uint8 / 255 * 255 comes back whole; truncated
        after normalisation in float32, {_spoiled(rounded=False)} of 256 grey values come back one
        too dark, rounded none.

        Flattening loses nothing: element c * H * W + row * W + column. Element {place} is channel
        2, row 10, column 14: {float(flat[place]):.4f}. A dense layer merely does not know which
        elements are neighbours.
    """
    memory = _memory()
    rows = [(step, "shared" if shared else "copied") for step, shared in memory.items()]
    claims = [*_round_trip(image), *_scales(there), *_flat(there), *_shared(memory)]
    return LabResult(
        text, claims, partial(_draw, image), [Table(("step", "memory"), rows, "Who shares")],
        {"pixel": pixel},
    )  # fmt: skip


def to_floats(image: Tensor) -> Tensor:
    """Return an image of uint8 as floats from 0 to 1."""
    return image.float() / 255


def to_bytes(image: Tensor, rounded: bool = True) -> Tensor:
    """Return an image of floats from 0 to 1 as uint8, rounded or truncated."""
    scaled = image * 255
    return (scaled.round() if rounded else scaled).clamp(0, 255).byte()


def to_pil(image: Tensor) -> Image.Image:
    """Return an image of uint8, (3, H, W), as one of PIL."""
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(image: Image.Image) -> Tensor:
    """Return an image of PIL as uint8, (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _spoiled(rounded: bool) -> int:
    """Return how many grey values do not survive scale, normalise, and the way back."""
    grey = torch.arange(256, dtype=torch.uint8)
    normal = (to_floats(grey) - MEAN) / STD
    return int((to_bytes(normal * STD + MEAN, rounded) != grey).sum())


def _image(digits: tuple[int, int, int]) -> Tensor:
    part = Digits().load().test
    assert part is not None
    places = [int((part.labels == digit).nonzero()[0]) for digit in digits]
    return torch.stack([part.images[place, 0] for place in places])


def _round_trip(image: Tensor) -> list[Claim]:
    picture = to_pil(image)
    grey = torch.arange(256, dtype=torch.uint8)
    red, green, blue = picture.split()
    return [
        is_true("Tensor to PIL to NumPy to tensor: every byte comes back",
                torch.equal(from_pil(picture), image), "T1.16"),
        is_true("PIL says (width, height), NumPy (height, width, channels)",
                picture.size == (28, 28) and np.asarray(picture).shape == (28, 28, 3)),
        is_true("PIL's red, green and blue are the channels 0, 1 and 2",
                all(np.array_equal(np.asarray(band), image[c].numpy())
                    for c, band in enumerate((red, green, blue)))),
        is_true("All 256 grey values survive / 255 and * 255, rounded",
                torch.equal(to_bytes(to_floats(grey)), grey), "T1.16"),
        equals("Normalised and back in float32, rounded: grey values spoiled", _spoiled(True), 0,
               0, "T1.16"),
        equals("truncated: grey values spoiled", _spoiled(False), 50, 0, "T1.16"),
    ]  # fmt: skip


def _scales(there: Tensor) -> list[Claim]:
    padded = F.pad((there - MEAN) / STD, (1, 1, 1, 1))
    return [
        is_true("After scaling all is from 0 to 1, and floats",
                there.dtype == torch.float32 and there.min() >= 0 and there.max() <= 1, "T1.10"),
        equals("Black, normalised", (torch.zeros(()) - MEAN) / STD, -0.4242, 5e-5, "T1.8"),
        equals("A zero padded after that is the grey value", padded[0, 0, 0] * STD + MEAN, MEAN,
               1e-6, "T1.8"),
    ]  # fmt: skip


def _flat(there: Tensor) -> list[Claim]:
    flat = there.flatten()
    ours = torch.stack([
        flat[c * 28 * 28 + row * 28 + column]
        for c in range(3) for row in range(28) for column in range(28)
    ])  # fmt: skip
    return [
        agrees("Element c H W + row W + column is pixel (c, row, column)",
               ours.view(3, 28, 28), there, 0, "T3.6"),
        is_true("Flatten and view give the image back",
                torch.equal(flat.view(3, 28, 28), there), "T3.23"),
        is_true("Channels last, flattened, is another order",
                not torch.equal(there.permute(1, 2, 0).flatten(), flat), "T3.6"),
    ]  # fmt: skip


def _memory() -> dict[str, bool]:
    """Return whether a change in what came out of a step is a change in what went in."""
    array = np.zeros((4, 4), dtype=np.uint8)
    tensor = torch.zeros(3, 4, 4)
    picture = Image.new("L", (4, 4))
    found = {}
    torch.from_numpy(array)[0, 0] = 1
    found["torch.from_numpy(array)"] = bool(array[0, 0] == 1)
    torch.tensor(array)[1, 1] = 1
    found["torch.tensor(array)"] = bool(array[1, 1] == 1)
    tensor.numpy()[0, 0, 0] = 1
    found["tensor.numpy()"] = bool(tensor[0, 0, 0] == 1)
    tensor.permute(1, 2, 0)[1, 1, 0] = 1
    found["tensor.permute(1, 2, 0)"] = bool(tensor[0, 1, 1] == 1)
    tensor[1][2, 2] = 1
    found["tensor[1], a channel"] = bool(tensor[1, 2, 2] == 1)
    tensor.flatten()[5] = 1
    found["tensor.flatten()"] = bool(tensor[0, 1, 1] == 1)
    tensor.permute(1, 2, 0).contiguous()[3, 3, 0] = 1
    found["tensor.permute(1, 2, 0).contiguous()"] = bool(tensor[0, 3, 3] == 1)
    tensor.float().div(255)[0, 3, 0] = 1
    found["tensor / 255"] = bool(tensor[0, 3, 0] == 1)
    np.array(picture)[0, 0] = 1
    found["np.array(picture)"] = picture.getpixel((0, 0)) == 1
    return found


def _shared(memory: dict[str, bool]) -> list[Claim]:
    return [
        is_true("from_numpy and numpy() share memory",
                memory["torch.from_numpy(array)"] and memory["tensor.numpy()"], "T1.16"),
        is_true("permute, a channel and flatten are views of it",
                memory["tensor.permute(1, 2, 0)"] and memory["tensor[1], a channel"]
                and memory["tensor.flatten()"]),
        is_true("torch.tensor, contiguous after permute, division and PIL's array copy",
                not any(memory[step] for step in (
                    "torch.tensor(array)", "tensor.permute(1, 2, 0).contiguous()", "tensor / 255",
                    "np.array(picture)")), "T1.16"),
    ]  # fmt: skip


def _draw(image: Tensor) -> Figure:
    from pellucid.labs.drawing import sheet

    figure, axes = sheet("One image of shape (3, 28, 28), and its channels", 5, size=(14, 3.6))
    axes[0].imshow(image.permute(1, 2, 0).numpy())
    axes[0].set_title("all three")
    for c, (name, axis) in enumerate(zip(("red", "green", "blue"), axes[1:4], strict=True)):
        axis.imshow(image[c].numpy(), cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"image[{c}]: {name}, as grey")
    part = image[1, 10:16, 10:16]
    axes[4].imshow(part.numpy(), cmap="gray", vmin=0, vmax=255)
    for i, row in enumerate(part.tolist()):
        for j, value in enumerate(row):
            axes[4].text(j, i, value, ha="center", va="center", fontsize=8,
                         color="black" if value > 128 else "white")  # fmt: skip
    axes[4].set_title("image[1, 10:16, 10:16]")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure
