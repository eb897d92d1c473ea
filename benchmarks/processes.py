"""Two gloo processes with one thread each against one process with two threads.

    python -m benchmarks.processes [--pairs 5] [--steps 60]

The CIFAR SimpleCNN on noise of CIFAR's shape: speed does not depend on the pixels. Strong
scaling: a batch of 128 for both; weak: 256. Each cell is a fresh job of `pellucid.train`; the cells
of one block are run in turn, forth and back. What counts is the median time between two steps, the
first 20 left out. Ratios are those of one block; their median and range over blocks are printed,
and the raw rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pellucid import good, steps, train
from pellucid.distributed.place import rank_here
from pellucid.engine import EngineSpec
from pellucid.launch import launch
from pellucid.models.simple_cnn import SimpleCNNSpec
from pellucid.plan import Duration
from pellucid.recipe import RecordSpec
from pellucid.seeds import generator
from pellucid.values import ImageSet, Loaded, Progress, Step, no_progress

WARM = 20
CELLS = {  # processes, threads of each, images of a step
    "1 process, 2 threads, batch 128": (1, 2, 128),
    "2 processes, 1 thread, batch 128": (2, 1, 128),
    "1 process, 2 threads, batch 256": (1, 2, 256),
    "2 processes, 1 thread, batch 256": (2, 1, 256),
    "1 process, 1 thread, batch 128": (1, 1, 128),
}


@dataclass(frozen=True)
class Noise:
    """Images of CIFAR's shape."""

    validation: float = 0.02
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        draws = generator(0, "benchmark")
        images = torch.randint(256, (10_000, 3, 32, 32), generator=draws, dtype=torch.uint8)
        labels = torch.arange(10_000) % 10
        classes = tuple("0123456789")
        return Loaded(
            ImageSet.of(images, labels, classes, "noise/train"),
            test=ImageSet.of(images[:100], labels[:100], classes, "noise/test"),
        )


class Clock:
    """Asked after each step; notes the time."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, step: Step) -> bool:
        self.times.append(time.perf_counter())
        return False


def cell(procs: int, threads: int, batch: int, length: int, result: Path) -> None:
    """Train in this process, or as one of several; rank 0 writes the median time of a step."""
    recipe = good("cifar10").with_(
        data=Noise(), model=SimpleCNNSpec(), batch_size=batch, length=steps(length),
        evaluate=Duration.parse(f"{length} steps"), schedule=good("digits").schedule,
        record=RecordSpec(snapshots=0, checkpoint=steps(length)),
        engine=EngineSpec(device="cpu", threads=threads, procs=procs),
    )  # fmt: skip
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, folder, stop=clock)
    between = [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)][WARM:]
    if not rank_here():
        result.write_text(json.dumps({"step_seconds": statistics.median(between)}))


def measure(name: str, length: int) -> float:
    """Return the images per second of a cell, from a fresh job."""
    procs, threads, batch = CELLS[name]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        words = [
            sys.executable,
            "-m",
            "benchmarks.processes",
            "--cell",
            name,
            "--steps",
            str(length),
        ]
        words += ["--result", str(result)]
        launched = launch(words, procs, threads, lambda text: print(text, file=sys.stderr))
        assert launched == 0
        return batch / float(json.loads(result.read_text())["step_seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--cell", choices=CELLS)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    if given.cell:
        cell(*CELLS[given.cell], given.steps, given.result)
        return
    names = list(CELLS)
    rows = []
    for block in range(given.pairs):
        order = names if block % 2 == 0 else names[::-1]
        load = os.getloadavg()[0]
        row = {name: round(measure(name, given.steps), 1) for name in order}
        rows.append(row)
        print(json.dumps({"block": block, "load": load, **row}), flush=True)
    a, b, c, d, e = names
    for text, value in (
        ("strong: 2 x 1 against 1 x 2 at 128", lambda r: r[b] / r[a]),
        ("weak: 2 x 1 against 1 x 2 at 256", lambda r: r[d] / r[c]),
        ("weak efficiency: 2 x 1 at 256 against twice 1 x 1 at 128", lambda r: r[d] / (2 * r[e])),
    ):
        found = sorted(value(row) for row in rows)
        middle = statistics.median(found)
        print(f"{text}: {middle:.3f} ({found[0]:.3f} to {found[-1]:.3f}; n = {len(found)})")


if __name__ == "__main__":
    main()
