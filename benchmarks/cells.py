"""The peers' cells: each one way of doing the work with another library.

    PEERS/bin/python -m benchmarks.cells --data mnist --epochs 1 --limit 2000 --cell keras-jax

runs one of them and prints its JSON line. It is run by the interpreter of the peers, in which
pellucid need not be installed; `arrays.prepare` has to have written the folder before.
"""

from __future__ import annotations

import argparse
import json
from typing import NamedTuple

from benchmarks.arrays import Work
from benchmarks.pairs import Row


class Cell(NamedTuple):
    """One way to set a peer up.

    Args:
        library: whose loop trains.
        data: `pil`: a Pillow image at a time through torchvision's transforms; `items`: normalised
            tensors in memory, an item at a time; `batches`: the same, a batch at a time; `arrays`:
            normalised NumPy arrays in memory; `kornia`: bytes in memory, augmented in the step.
        workers: of each DataLoader.
        shown: with progress bar and logger, as by default.
        barebones: without what the library can leave out: bar, logger, checkpoints, callbacks.
        fast: channels-last layout and fused Adam.
        pool_first: max-pooling before ReLU.
        precision: as Lightning calls it.
        backend: of Keras.
        shuffles: Keras draws the order itself.
    """

    library: str
    data: str = "pil"
    workers: int = 0
    shown: bool = False
    barebones: bool = False
    fast: bool = False
    pool_first: bool = False
    precision: str = "32-true"
    backend: str = "torch"
    shuffles: bool = False


BEST = {"fast": True, "pool_first": True, "barebones": True}
CELLS = {
    "lightning": Cell("lightning", shown=True),
    "lightning-0": Cell("lightning"),
    "lightning-1": Cell("lightning", workers=1),
    "lightning-2": Cell("lightning", workers=2),
    "lightning-fast-0": Cell("lightning", **BEST),
    "lightning-fast-1": Cell("lightning", workers=1, **BEST),
    "lightning-fast-2": Cell("lightning", workers=2, **BEST),
    "lightning-bf16-1": Cell("lightning", workers=1, precision="bf16-mixed", **BEST),
    "lightning-items": Cell("lightning", "items", **BEST),
    "lightning-batches": Cell("lightning", "batches", **BEST),
    "lightning-batches-relu-first": Cell("lightning", "batches", barebones=True, fast=True),
    "keras-torch": Cell("keras", "arrays", backend="torch"),
    "keras-torch-shuffles": Cell("keras", "arrays", backend="torch", shuffles=True),
    "keras-torch-nhwc": Cell("keras", "arrays", backend="torch", fast=True),
    "keras-jax": Cell("keras", "arrays", backend="jax", fast=True),
    "keras-jax-pool-first": Cell("keras", "arrays", backend="jax", fast=True, pool_first=True),
    "keras-jax-shuffles": Cell("keras", "arrays", backend="jax", fast=True, shuffles=True),
    "loop-0": Cell("loop"),
    "loop-1": Cell("loop", workers=1),
    "loop-2": Cell("loop", workers=2),
    "loop-fast-1": Cell("loop", workers=1, **BEST),
    "skorch": Cell("skorch", "arrays", shown=True),
    "skorch-bare": Cell("skorch", "arrays", barebones=True),
    "skorch-fast": Cell("skorch", "arrays", **BEST),
    "kornia": Cell("loop", "kornia"),
    "kornia-fast": Cell("loop", "kornia", **BEST),
}


def run(name: str, work: Work) -> Row:
    """Run one cell in this process; return its row. Only its library is imported."""
    cell = CELLS[name]
    if cell.library == "lightning":
        from benchmarks.loaders import KEPT  # first: lightning brings torchvision in

        assert KEPT is None or KEPT
        from benchmarks.lightning_cell import train_lightning

        return train_lightning(cell, work)
    if cell.library == "keras":
        from benchmarks.keras_cell import train_keras

        return train_keras(cell, work)
    if cell.library == "skorch":
        from benchmarks.skorch_cell import train_skorch

        return train_skorch(cell, work)
    from benchmarks.loop_cell import train_loop

    return train_loop(cell, work)


def parser() -> argparse.ArgumentParser:
    """Return the parser of what names a piece of work."""
    found = argparse.ArgumentParser()
    found.add_argument("--data", choices=("digits", "mnist", "cifar10"), required=True)
    found.add_argument("--epochs", type=int, required=True)
    found.add_argument("--limit", type=int, default=0)
    found.add_argument("--augment", action="store_true")
    found.add_argument("--first-step", action="store_true")
    return found


def main() -> None:
    """Run the cell of the command line."""
    words = parser()
    words.add_argument("--cell", choices=CELLS, required=True)
    given = vars(words.parse_args())
    print(json.dumps(run(given.pop("cell"), Work(**given))))


if __name__ == "__main__":
    main()
