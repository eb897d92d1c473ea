"""Many images: which, how many, and what the reader is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.inspection.formulas import macs
from pellucid.inspection.trace import looking, trace
from pellucid.values import ImageSet
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject

BATCH = 250


@dataclass(frozen=True, eq=False)
class Sample:
    """Images of one part.

    Args:
        data: the images.
        text: which they are: `all 500 of validation`, or `500 of 5,000 of train, evenly spread`.
        subject: what prepares them.
    """

    data: ImageSet
    text: str
    subject: Subject

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield prepared images and their labels, in order."""
        for index in torch.arange(len(self.data)).split(size):
            yield self.subject.prepare(self.data.pixels(index)), self.data.label(index)


def sample(subject: Subject, options: Options, most: int, part: str | None = None) -> Sample:
    """Return as many images as asked for, or else at most `most`, evenly spread over the part.

    Raises:
        BadOption: if fewer than one is asked for.
    """
    if options.on is None and part and not len(getattr(subject.parts(), part)):
        part = None  # a model of one's own may come with one set only
    data = subject.part(options.on or part)
    if options.count is not None and options.count < 1:
        raise BadOption(f"--count must be at least 1. Got {options.count}.")
    count = min(options.count or most, len(data))
    name = data.name
    if count == len(data):
        return Sample(data, f"all {count:,} images of {name}", subject)
    index = torch.arange(count) * len(data) // count
    text = f"{count:,} of {len(data):,} images of {name}, evenly spread"
    return Sample(data.part(index), text, subject)


def work(subject: Subject, image: Tensor) -> int:
    """Return the multiplications of a forward pass of one prepared image (1, C, H, W), at least 1.

    By it a view of a network that costs more looks at fewer images.
    """
    with looking(subject.model), torch.no_grad():
        return max(1, sum(macs(op) for op in trace(subject.model, image)))
