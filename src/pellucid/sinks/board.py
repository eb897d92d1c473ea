"""What a board is, and what it gets to see of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.sinks.charts import Row
from pellucid.sinks.pictures import Floats, Pixels, first_filters, grid

BINS = 64
"""Of a histogram, all of one width."""


@dataclass(frozen=True)
class Story:
    """What a board has to know of a run.

    Args:
        path: the run folder.
        name: of the run.
        recipe: the text of its `recipe.toml`.
        step: steps done; above 0 when the run is resumed.
        rows: those that `metrics.jsonl` holds already.
    """

    path: Path
    name: str
    recipe: str
    step: int = 0
    rows: Sequence[Row] = ()


@dataclass(frozen=True, eq=False)
class Look:
    """The inside of a model at one moment; the arrays are copies.

    Args:
        step: steps done.
        weights: by name, all of floating type and with more than one number.
        samples: (N, C, H, W) in [0, 1], training images as the network gets them; or None.
    """

    step: int
    weights: dict[str, Floats]
    samples: Floats | None

    @classmethod
    def at(cls, step: int, weights: Mapping[str, Tensor], samples: Tensor | None) -> Look:
        """Copy what is to be seen: training changes it while a board is still busy with it."""
        kept = {
            name: _copy(tensor)
            for name, tensor in weights.items()
            if tensor.is_floating_point() and tensor.numel() > 1
        }
        return cls(step, kept, None if samples is None else _copy(samples))

    def pictures(self) -> dict[str, Pixels]:
        """Return `filters` and `samples` as image grids; only those that there are."""
        shape = None if self.samples is None else self.samples.shape[1:]
        images = {"filters": first_filters(self.weights, shape), "samples": self.samples}
        return {name: grid(one) for name, one in images.items() if one is not None and len(one)}

    def numbers(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield each weight's name and its finite numbers, in a row; for histograms."""
        for name, values in self.weights.items():
            finite = values[np.isfinite(values)].astype(np.float64)
            if finite.size:
                yield name, finite


def _copy(tensor: Tensor) -> Floats:
    copied: Floats = tensor.detach().to("cpu", torch.float32, copy=True).numpy()
    return copied


class BoardFailed(Exception):
    """A board cannot go on; the message says why, and what to do."""


class Board(Protocol):
    """Something that shows a run. All its methods are called in one thread, `open` first."""

    name: str

    def open(self, story: Story) -> None:
        """Begin, with the rows that there are already."""

    def rows(self, rows: Sequence[Row]) -> None:
        """Take new rows of `metrics.jsonl`."""

    def look(self, look: Look) -> None:
        """Take a look inside the model."""

    def result(self, text: str) -> None:
        """Take what came out in the end."""

    def flush(self) -> None:
        """Deliver what was taken."""

    def close(self) -> None:
        """Let go of files and connections, whatever has happened."""
