"""What the peers get: pixels, labels, statistics, the order of the data, the first weights.

`prepare` runs on our side and needs pellucid; `read` runs on theirs and needs NumPy. The folder of
one piece of work is named by its data, its epochs and its limit. Images lie decoded on the disk for
both sides: ours in the cache of `pellucid`, theirs as arrays.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.pairs import BATCH as BATCH

EVALUATION_BATCH = 500
PARTS = ("train", "probe", "validation", "test")


@dataclass(frozen=True)
class Work:
    """One piece of work, the same for every side.

    Args:
        data: `digits`, `mnist` or `cifar10`; the network is that of its textbook recipe.
        epochs: to train.
        limit: images at most; 0 means all.
        augment: with the full chain; CIFAR only.
        first_step: end after one step.
    """

    data: str
    epochs: int
    limit: int = 0
    augment: bool = False
    first_step: bool = False

    @property
    def folder(self) -> Path:
        """Where `prepare` writes."""
        name = f"{self.data}-{self.epochs}-{self.limit}"
        return Path(tempfile.gettempdir()) / "pellucid-benchmarks" / name

    @property
    def arguments(self) -> list[str]:
        """The words for a command line that `parse` reads."""
        words = [f"--data={self.data}", f"--epochs={self.epochs}", f"--limit={self.limit}"]
        return words + ["--augment"] * self.augment + ["--first-step"] * self.first_step

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Mean and standard deviation of each channel."""
        found: dict[str, Any] = json.loads((self.folder / "facts.json").read_text("utf-8"))
        return found

    def read(self, part: str) -> tuple[Any, Any]:
        """Return images, uint8 (N, H, W, C), and labels, int64 (N,), as NumPy arrays."""
        import numpy as np

        images, labels = (np.load(self.folder / f"{part}_{what}.npy") for what in WHAT)
        return images, labels

    def orders(self) -> Any:
        """Return the order of each epoch, int64 (epochs, N)."""
        import numpy as np

        return np.load(self.folder / "order.npy")

    def normalised(self, part: str, channels_first: bool) -> tuple[Any, Any]:
        """Return images as float32, normalised, and labels."""
        import numpy as np

        images, labels = self.read(part)
        mean, std = (np.asarray(self.facts[name], np.float32) for name in ("mean", "std"))
        x = (images.astype(np.float32) / 255 - mean) / std
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if channels_first else x
        return x, labels

    @property
    def weights(self) -> Path:
        """The file of the first weights."""
        return self.folder / "weights.safetensors"


WHAT = ("images", "labels")


def prepare(work: Work) -> None:
    """Write the folder of `work`; it also fills the cache of pellucid."""
    import numpy as np
    import safetensors.torch
    import torch

    from benchmarks.ours import limited
    from pellucid import Engine, notes
    from pellucid.assemble import assemble
    from pellucid.seeds import generator

    recipe = limited(notes(work.data), work.limit)
    built = assemble(recipe, Engine.start(recipe.engine))
    splits, task, folder = built.splits, built.task, work.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip(
        PARTS, (splits.train, task.probe, splits.validation, splits.test), strict=True
    ):
        pixels = part.images[part.rows].permute(0, 2, 3, 1).contiguous()  # (N, H, W, C)
        np.save(folder / f"{name}_images.npy", pixels.numpy())
        np.save(folder / f"{name}_labels.npy", part.targets.numpy())
    size, seed = len(splits.train), recipe.seed
    orders = [
        torch.randperm(size, generator=generator(seed, "shuffle", epoch))
        for epoch in range(work.epochs)
    ]
    np.save(folder / "order.npy", torch.stack(orders).numpy())
    weights = {name: w.contiguous() for name, w in built.state.model.state_dict().items()}
    safetensors.torch.save_file(weights, work.weights)
    facts = {"mean": built.preprocessing.mean, "std": built.preprocessing.std}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")  # last: it is complete
