"""Which image a view is asked about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.data.decode import NotAnImage
from pellucid.data.files import read_file
from pellucid.data.workers import Workers
from pellucid.errors import BadData
from pellucid.inspection.drawing import NoInk, prepare_drawing
from pellucid.viewdata import DoesNotApply
from pellucid.views.options import BadOption, Options, within
from pellucid.views.subject import Subject


@dataclass(frozen=True, eq=False)
class Picture:
    """One image.

    Args:
        pixels: uint8 (1, C, H, W), of the size that the model takes.
        x: the same, as the model takes it.
        label: its class, or None if that is not known.
        name: what a person needs to find it.
        steps: what was done to a drawing, as images uint8 (H, W) by name.
    """

    pixels: Tensor
    x: Tensor
    label: int | None
    name: str
    steps: dict[str, Tensor]


def picture(subject: Subject, options: Options) -> Picture:
    """Return the image that `options` name; else the first one of validation.

    Raises:
        BadOption: if more than one is named.
        BadData: if a file is no image, or has no ink where a drawing is expected.
    """
    ways = [way for way in ("image", "drawing", "index") if way in options.given()]
    if len(ways) > 1:
        raise BadOption(f"Name one image: --{' or --'.join(ways)}, not both.")
    if options.image is not None or options.drawing is not None:
        return _file(subject, options)
    data = subject.part(options.on)
    at = within("image", options.index or 0, len(data), f"The part {data.name}")
    index = torch.tensor([at])
    pixels = data.pixels(index)
    label, name = int(data.label(index)[0]), data.describe(at)
    return Picture(pixels, subject.prepare(pixels), label, name, {})


def _file(subject: Subject, options: Options) -> Picture:
    file = options.image or options.drawing
    assert file is not None
    channels, height, width = subject.shape
    steps: dict[str, Tensor] = {}
    try:
        data = read_file(str(file))
        if options.drawing is not None:
            if subject.shape != (1, 28, 28):
                raise DoesNotApply(
                    "A drawing is prepared as MNIST was, for grey images of 28x28 pixels; this "
                    f"model takes {channels}x{height}x{width}. Use --image FILE."
                )
            with Workers() as workers:
                drawn = prepare_drawing(torch.from_numpy(workers.decode(data, 1, None)[0]))
            pixels, steps = drawn.pixels[None, None], drawn.steps
        else:
            with Workers() as workers:
                pixels = torch.from_numpy(workers.fitted(data, subject.shape))[None]
    except (OSError, NotAnImage, NoInk) as error:
        raise BadData(f"{file}: {getattr(error, 'strerror', None) or error}.") from None
    return Picture(pixels, subject.prepare(pixels), None, str(file), steps)
