"""The peer: Lightning with torchvision's transforms, at its defaults and at its best."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pairs
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, TensorDataset

if TYPE_CHECKING:
    from peers import Cell

BATCH, EVALUATION_BATCH = 128, 500
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
import lightning as L  # noqa: E402
from lightning.pytorch.callbacks import Callback, ModelCheckpoint  # noqa: E402
from torchvision import transforms  # noqa: E402

BEFORE = [
    transforms.RandomHorizontalFlip(),
    transforms.RandomCrop(32, padding=4),
    transforms.RandomRotation(15, transforms.InterpolationMode.BILINEAR),
    transforms.ColorJitter(0.4, 0.4, 0.4, 0.1),
]
"""What `augment_steps.CHAIN` does, but for erasing."""


class Pictures(Dataset[Item]):
    """One Pillow image at a time, through the transforms."""

    def __init__(self, images: Any, labels: Any, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Order(Sampler[int]):
    """The order of the other side, an epoch at a time."""

    def __init__(self, orders: Any) -> None:
        self.orders, self.epoch = orders, 0

    def __len__(self) -> int:
        return self.orders.shape[1]

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter(self.orders[self.epoch - 1].tolist())


def loader(cell: Cell, folder: Path, name: str) -> DataLoader[Any]:
    """Return the DataLoader of one part, as `cell` has it."""
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    images, labels = (np.load(folder / f"{name}_{part}.npy") for part in ("images", "labels"))
    size = BATCH if name == "train" else EVALUATION_BATCH
    order = Order(np.load(folder / "order.npy")) if name == "train" else None
    if cell.data == "pil":
        normalize = transforms.Normalize(facts["mean"], facts["std"])
        chain = [transforms.ToTensor(), normalize]
        if cell.augment and name == "train":
            chain = [*BEFORE, *chain, transforms.RandomErasing(p=0.3, scale=(0.02, 0.4))]
        data = Pictures(images, labels, transforms.Compose(chain))
        alive = {"num_workers": cell.workers, "persistent_workers": cell.workers > 0}
        return DataLoader(data, size, sampler=order, **alive)
    mean, std = torch.tensor(facts["mean"]), torch.tensor(facts["std"])
    x = (torch.from_numpy(images).float() / 255 - mean) / std  # (N, H, W, C)
    tensors = TensorDataset(x.permute(0, 3, 1, 2), torch.from_numpy(labels))
    if cell.data == "items":
        return DataLoader(tensors, size, sampler=order)
    batches = BatchSampler(order or range(len(tensors)), size, drop_last=False)
    return DataLoader(tensors, batch_size=None, sampler=batches)


class Net(nn.Module):
    """The three-convolution network, as the textbook writes it or with the pools first."""

    def __init__(self, pool_first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(1024, 64)
        self.fc2 = nn.Linear(64, 10)
        self.pool_first = pool_first

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 10) for images (B, 3, 32, 32)."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = conv(x)
            x = F.relu(self.pool(x)) if self.pool_first else self.pool(F.relu(x))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Module(L.LightningModule):
    """The network with its loss; `self.log` unless the cell is bare."""

    def __init__(self, cell: Cell, weights: Path) -> None:
        super().__init__()
        self.cell = cell
        self.net = Net(cell.pool_first)
        self.net.load_state_dict(safetensors.torch.load_file(weights))
        if cell.fast:
            self.net.to(memory_format=torch.channels_last)
        self.losses: list[Tensor] = []
        self.right: list[Tensor] = []
        self.samples = 0

    def training_step(self, batch: Item, index: int) -> Tensor:
        """Return the loss of one batch."""
        loss = F.cross_entropy(self.net(self.images(batch)), batch[1])
        self.losses.append(loss.detach())
        self.samples += len(batch[1])
        if not self.cell.barebones:
            self.log("loss", loss)
        return loss

    def validation_step(self, batch: Item, index: int, dataloader_idx: int = 0) -> None:
        """Judge one batch of one of the two sets."""
        logits, targets = self.net(self.images(batch)), batch[1]
        loss, right = F.cross_entropy(logits, targets), logits.argmax(1) == targets
        if not self.cell.barebones:
            self.log_dict({"val_loss": loss, "val_accuracy": right.float().mean()})
        if dataloader_idx == 1:
            self.right.append(right)

    test_step = validation_step

    def images(self, batch: Item) -> Tensor:
        """Return the images, in channels-last layout if the cell has it."""
        if self.cell.fast:
            return batch[0].contiguous(memory_format=torch.channels_last)
        return batch[0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3, fused=self.cell.fast or None)


class Clock(Callback):
    """Notes the time."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.began = self.first_step = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Start the training clock."""
        self.began = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the end of the first step."""
        self.first_step = self.first_step or time.monotonic()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Note the end of an epoch; its validation is over."""
        self.marks.append(time.monotonic())


def train_lightning(cell: Cell, folder: Path, epochs: int) -> pairs.Row:
    """Train with Lightning on what `peers.prepare` wrote into `folder`; return the row."""
    clock, module = Clock(), Module(cell, folder / "weights.safetensors")
    start = pairs.digest(module.net.state_dict())
    callbacks: list[Callback] = [clock]
    options: dict[str, Any] = {"barebones": True}
    if not cell.barebones:
        callbacks.append(ModelCheckpoint(monitor="val_accuracy/dataloader_idx_0", mode="max"))
        options = {} if cell.shown else {"enable_progress_bar": False, "logger": False}
    train, probe, validation, test = (
        loader(cell, folder, name) for name in ("train", "probe", "validation", "test")
    )
    with tempfile.TemporaryDirectory() as out:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            precision=cell.precision,
            callbacks=callbacks,
            default_root_dir=out,
            **options,
        )
        trainer.fit(module, train, [validation, probe])
        ended = time.monotonic()
        end = pairs.digest(module.net.state_dict())
        module.right.clear()
        best = None if cell.barebones else "best"
        trainer.test(module, [validation, test], ckpt_path=best, verbose=cell.shown)
    return pairs.result(
        losses=torch.stack(module.losses).tolist(),
        samples=module.samples,
        seconds=ended - clock.began,
        marks=clock.marks,
        first_step=clock.first_step,
        weights=(start, end),
        accuracy=torch.cat(module.right).float().mean().item(),
    )
