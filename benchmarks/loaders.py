"""DataLoaders of the peers that are written in PyTorch, with transforms or without."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, TensorDataset

from benchmarks.arrays import BATCH, EVALUATION_BATCH, Work
from benchmarks.cells import Cell

Item = tuple[Tensor, Any]


def let_torchvision_load() -> torch.library.Library | None:
    """Declare the operators without which a torchvision made for a CUDA torch stops.

    The package index has no other; on a CPU-only torch its kernels do not load, and its
    transforms need none of them. The declarations last as long as what is returned.
    """
    found = find_spec("torchvision")
    assert found
    assert found.origin
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


KEPT = let_torchvision_load()


class Pictures(Dataset[Item]):
    """One Pillow image at a time, through the transforms, as torchvision's data sets do it."""

    def __init__(self, images: Any, labels: Any, transform: Any) -> None:
        self.images = images[..., 0] if images.shape[-1] == 1 else images
        self.labels, self.transform = labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Order(Sampler[int]):
    """The order of the other side, an epoch at a time."""

    def __init__(self, orders: Any) -> None:
        self.orders, self.epoch = orders, 0

    def __len__(self) -> int:
        return int(self.orders.shape[1])

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter(self.orders[self.epoch - 1].tolist())


def loader(cell: Cell, work: Work, part: str) -> DataLoader[Any]:
    """Return the DataLoader of one part, as `cell` has it."""
    size = BATCH if part == "train" else EVALUATION_BATCH
    order = Order(work.orders()) if part == "train" else None
    if cell.data == "pil":
        pictures = Pictures(*work.read(part), _transforms(work, part))
        alive = {"num_workers": cell.workers, "persistent_workers": cell.workers > 0}
        return DataLoader(pictures, size, sampler=order, **alive)
    tensors = TensorDataset(*map(torch.from_numpy, work.normalised(part, channels_first=True)))
    if cell.data == "items":
        return DataLoader(tensors, size, sampler=order)
    batches = BatchSampler(order or range(len(tensors)), size, drop_last=False)
    return DataLoader(tensors, batch_size=None, sampler=batches)


def _transforms(work: Work, part: str) -> Any:
    """Return the transforms: with `augment` those of `augment_steps.CHAIN`, image by image."""
    from torchvision import transforms as t

    chain: list[Any] = [t.ToTensor(), t.Normalize(work.facts["mean"], work.facts["std"])]
    if work.augment and part == "train":
        before = [
            t.RandomHorizontalFlip(),
            t.RandomCrop(32, padding=4),
            t.RandomRotation(15, t.InterpolationMode.BILINEAR),
            t.ColorJitter(0.4, 0.4, 0.4, 0.1),
        ]
        chain = [*before, *chain, t.RandomErasing(p=0.3, scale=(0.02, 0.4))]
    return t.Compose(chain)
