"""The same work as Lightning with torchvision: SimpleCNN on CIFAR-10, whole process.

Both sides: 94,890 parameters, the same initial weights, the same batches of 128 in the same order,
fp32, no augmentation, Adam at 0.001; each epoch is judged on the validation images and on 2,000
training images, and at the end validation and test are. The images lie decoded on the disk for
both: ours in the cache of `pellucid`, the peer's as arrays, from which it makes Pillow images as
`torchvision.datasets.CIFAR10` does. ReLU and max-pooling commute: the textbook net has ReLU first.

With `--augment` both sides flip, crop, rotate, change brightness, contrast, saturation and hue, and
erase, with the same strengths: ours in batches, the peer with torchvision's transforms per image.
The draws differ, so the curves do too. `--precision bf16` is for ours; the peer has cells for it.

Ours has everything on. The peer's cells are below, and run in `lightning_cell.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

import pairs
import table

Precision = Literal["fp32", "bf16"]


class Cell(NamedTuple):
    """One way to set the peer up.

    Args:
        data: `pil`: a Pillow image at a time, ToTensor, Normalize; `items`: normalised tensors
            in memory, an item at a time; `batches`: the same, a batch at a time.
        workers: of each DataLoader.
        shown: with progress bar and logger, as by default.
        barebones: Lightning's own switch for no bar, logger, checkpoint, check and summary.
        fast: channels-last layout and fused Adam.
        pool_first: max-pooling before ReLU.
        precision: as Lightning calls it.
        augment: the transforms of the chain.
    """

    data: str = "pil"
    workers: int = 0
    shown: bool = False
    barebones: bool = False
    fast: bool = False
    pool_first: bool = False
    precision: str = "32-true"
    augment: bool = False


CELLS = {
    "defaults": Cell(shown=True),
    "pil-0": Cell(),
    "pil-1": Cell(workers=1),
    "pil-2": Cell(workers=2),
    "pil-fast-0": Cell(fast=True, pool_first=True, barebones=True),
    "pil-fast-1": Cell(workers=1, fast=True, pool_first=True, barebones=True),
    "items": Cell("items", barebones=True, fast=True, pool_first=True),
    "best": Cell("batches", barebones=True, fast=True, pool_first=True),
    "best-relu-first": Cell("batches", barebones=True, fast=True),
    "pil-fast-bf16-1": Cell(
        workers=1, fast=True, pool_first=True, barebones=True, precision="bf16-mixed"
    ),
}
PER_IMAGE = [name for name, cell in CELLS.items() if cell.data == "pil"]
"""The cells whose input can be augmented by torchvision's transforms."""
FILES = ("train", "probe", "validation", "test")


def prepare(folder: Path, epochs: int, limit: int) -> None:
    """Write what the peer needs: pixels, labels, statistics, order of the data, first weights.

    It also fills the cache of `pellucid`.
    """
    import numpy as np
    import safetensors.torch
    import torch
    from ours import limited

    from pellucid import Engine, notes
    from pellucid.assemble import assemble
    from pellucid.seeds import generator

    recipe = limited(notes("cifar10"), limit)
    built = assemble(recipe, Engine.start(recipe.engine))
    splits, task = built.splits, built.task
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip(
        FILES, (splits.train, task.probe, splits.validation, splits.test), strict=True
    ):
        pixels = part.images[part.rows].permute(0, 2, 3, 1).contiguous()  # (N, H, W, C)
        np.save(folder / f"{name}_images.npy", pixels.numpy())
        np.save(folder / f"{name}_labels.npy", part.targets.numpy())
    size, seed = len(splits.train), recipe.seed
    orders = [torch.randperm(size, generator=generator(seed, "shuffle", e)) for e in range(epochs)]
    np.save(folder / "order.npy", torch.stack(orders).numpy())
    weights = {name: w.contiguous() for name, w in built.state.model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "weights.safetensors")
    facts = {"mean": built.preprocessing.mean, "std": built.preprocessing.std}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")  # last: it is complete


def ours(epochs: int, limit: int, augment: bool, precision: Precision) -> pairs.Row:
    """Train with `pellucid.train`; return the row of the cell."""
    from augment_steps import CHAIN
    from ours import limited, train_ours

    import pellucid
    from pellucid.engine import EngineSpec

    recipe = pellucid.notes("cifar10").with_(
        length=pellucid.epochs(epochs), engine=EngineSpec(precision=precision)
    )
    if augment:
        recipe = recipe.with_(augment=CHAIN)
    return train_ours(limited(recipe, limit))


def main() -> None:
    """Run the blocks that are missing, or one cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=4, help="of two pairs each")
    parser.add_argument("--against", nargs="+", choices=CELLS)
    parser.add_argument("--augment", action="store_true", help="both sides")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of ours")
    parser.add_argument("--limit", type=int, default=0, help="images at most, to try it out")
    parser.add_argument("--work", type=Path, help="for the arrays; else among temporary files")
    parser.add_argument("--cell", choices=("prepare", "ours", *CELLS), help="run this one alone")
    given = parser.parse_args()
    work = given.work or Path(tempfile.gettempdir()) / "pellucid-benchmarks"
    folder = work / f"cifar10-{given.epochs}-{given.limit}"
    if given.cell == "prepare":
        prepare(folder, given.epochs, given.limit)
        return
    if given.cell:
        if given.cell == "ours":
            row = ours(given.epochs, given.limit, given.augment, given.precision)
        else:
            from lightning_cell import train_lightning  # here: ours must not pay for it

            cell = CELLS[given.cell]._replace(augment=given.augment)
            row = train_lightning(cell, folder, given.epochs)
        print(json.dumps(row))
        return
    settings = {"epochs": given.epochs, "limit": given.limit}
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    arguments += ["--augment"] * given.augment + [f"--precision={given.precision}"]
    command = [sys.executable, __file__, *arguments]
    command += [f"--work={given.work}"] if given.work else []
    if not (folder / "facts.json").exists():
        pairs.spawn([*command, "--cell=prepare"])
    contest = "peers" + "-augment" * given.augment + "-bf16" * (given.precision == "bf16")
    for block in range(given.blocks):
        for against in given.against or (PER_IMAGE if given.augment else CELLS):
            commands = {cell: [*command, f"--cell={cell}"] for cell in ("ours", against)}
            pairs.run_block(contest, against, block, commands, settings)
    print(table.table())


if __name__ == "__main__":
    main()
