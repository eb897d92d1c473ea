"""The contests S1 to S8: against whom, in which cells, by which clock, with which target."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pairs
from benchmarks.arrays import Work

PYTHON = "PELLUCID_PEERS"
"""The variable that names the interpreter of the peers; without it they run in ours."""


@dataclass(frozen=True)
class Family:
    """One rival, in one or several cells; the fastest of them counts.

    Args:
        name: as the table calls it.
        cells: in `cells.CELLS`; the first are those that are run unless others are asked for.
        target: the least ratio of its time by ours; None: shown without a target.
        run: how many of the cells are run unless others are asked for.
    """

    name: str
    cells: tuple[str, ...]
    target: float | None
    run: int = 1


@dataclass(frozen=True)
class Contest:
    """Paired cells: ours, and those of the families.

    Args:
        title: what is done.
        data: whose textbook recipe it is.
        epochs: unless others are asked for.
        clock: the column of a row that the target is about.
        families: the rivals.
        augment: with the full chain.
        first_step: end after one step.
        bf16: the target of a family where ours may take bf16; it is of the first family.
    """

    title: str
    data: str
    epochs: int
    clock: str
    families: tuple[Family, ...]
    augment: bool = False
    first_step: bool = False
    bf16: float | None = None


PAIRED = {
    "S1": Contest(
        "MNIST CNN, 421,642 parameters, fp32, whole process", "mnist", 12, "wall",
        (
            Family(
                "Lightning + torchvision",
                ("lightning", "lightning-fast-1", "lightning-fast-0", "lightning-fast-2",
                 "lightning-0", "lightning-1", "lightning-2"),
                1.7, 3,
            ),
            Family(
                "Lightning, whole batches of tensors",
                ("lightning-batches", "lightning-items", "lightning-batches-relu-first"), None,
            ),
            Family(
                "Keras on torch", ("keras-torch", "keras-torch-shuffles", "keras-torch-nhwc"), 1.7
            ),
            Family(
                "Keras on JAX", ("keras-jax", "keras-jax-pool-first", "keras-jax-shuffles"), 1.7
            ),
            Family("plain loop", ("loop-1", "loop-0", "loop-2", "loop-fast-1"), 1.7, 2),
            Family("skorch", ("skorch", "skorch-fast", "skorch-bare"), 1.7, 2),
        ),
    ),
    "S2": Contest(
        "SimpleCNN on CIFAR images, full augmentation, whole process", "cifar10", 2, "wall",
        (
            Family(
                "Lightning + torchvision",
                ("lightning-fast-1", "lightning-fast-2", "lightning-fast-0", "lightning-bf16-1",
                 "lightning", "lightning-1", "lightning-2"),
                2.5, 2,
            ),
            Family("plain loop + kornia", ("kornia-fast", "kornia"), 2.5),
            Family("plain loop + torchvision", ("loop-fast-1", "loop-1", "loop-2"), None, 0),
        ),
        augment=True, bf16=5.0,
    ),
    "S5": Contest(
        "digits, start of the process to the first step", "digits", 1, "to_first_step",
        (
            Family("Lightning", ("lightning-fast-0", "lightning-batches"), 1 / 0.6),
            Family("Keras on torch", ("keras-torch",), 1 / 0.6),
            Family("Keras on JAX", ("keras-jax",), 1 / 0.6),
        ),
        first_step=True,
    ),
}  # fmt: skip
ALONE = {
    "S3": (
        "our loop with default recording / bare loop with the same kernels, images per second",
        ">= 0.99",
    ),
    "S4": (
        "our step with the full augmentation / bare step on tensors that lie ready, images/s",
        ">= 0.85",
    ),
    "S6": ("the pause of a checkpoint", "see the rows"),
    "S7": ("peak memory of S1 and S2 against the peers: from their rows", "<= each"),
    "S8": ("growth: 1, 10, 100 times the images, 2 and 4 times the parameters", "see the rows"),
}


def peers_python() -> str:
    """Return the interpreter of the peers."""
    return os.environ.get(PYTHON, sys.executable)


def default_cells(contest: Contest) -> list[str]:
    """Return the cells that are run unless others are asked for."""
    return [cell for family in contest.families for cell in family.cells[: family.run]]


def run_paired(
    name: str, blocks: int, against: list[str], epochs: int, limit: int, precision: str
) -> None:
    """Run the cells of a contest that have no row yet, block by block."""
    contest = PAIRED[name]
    work = Work(contest.data, epochs or contest.epochs, limit, contest.augment, contest.first_step)
    ours = [sys.executable, "-m", "benchmarks.ours", *work.arguments]
    if not (work.folder / "facts.json").exists():
        pairs.spawn([*ours, "--prepare"])
    settings = {"data": work.data, "epochs": work.epochs, "limit": limit, "precision": precision}
    wanted = [*dict.fromkeys(against or default_cells(contest))]
    for block in range(blocks):
        for cell in wanted:
            theirs = [peers_python(), "-m", "benchmarks.cells", *work.arguments, f"--cell={cell}"]
            commands = {"ours": [*ours, f"--precision={precision}"], cell: theirs}
            pairs.run_block(name, cell, block, commands, settings)


def run_alone(name: str, words: list[str]) -> None:
    """Run a contest that is not made of cells: `words` go to the file that measures it."""
    if name in ("S3", "S4"):
        module = "benchmarks.tax_steps" if name == "S3" else "benchmarks.augment_steps"
        row = pairs.spawn([sys.executable, "-m", module, *words])
        what, target = ALONE[name]
        pairs.record(name, what, row.pop("value"), "", target, row)
    elif name == "S6":
        pause = [peers_python(), "-m", "benchmarks.checkpoint_pause", *words]
        subprocess.run(pause, check=True, cwd=pairs.HERE.parent)
    elif name == "S8":
        subprocess.run(
            [sys.executable, "-m", "benchmarks.growth", *words], check=True, cwd=pairs.HERE.parent
        )


def make_peers(folder: Path) -> Path:
    """Make the environment of the peers in `folder`; return its interpreter.

    It gets the PyTorch that ours has, so that the kernels are the same, and pellucid as it is here:
    S6 runs both sides in one process.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    torch = f"torch=={pairs.versions()['torch'].partition('+')[0]}"
    wanted = ["-r", str(pairs.HERE / "peers.txt"), torch, "-e", str(pairs.HERE.parent)]
    subprocess.run([str(python), "-m", "pip", "install", *wanted], check=True)
    return python
