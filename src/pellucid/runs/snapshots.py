"""Copies of the weights over the course of a run, for looking inside."""

from __future__ import annotations

import re
from pathlib import Path

import safetensors.torch
from torch import Tensor

from pellucid.runs.disk import DISK, Disk, replace_file

FOLDER = "snapshots"


def snapshot_steps(steps: int, count: int) -> frozenset[int]:
    """Return after which steps a copy is kept: 0 and `count` more, evenly spread, the last too.

    >>> sorted(snapshot_steps(100, 4))
    [0, 25, 50, 75, 100]
    >>> sorted(snapshot_steps(100, 0))
    []
    """
    return frozenset(round(steps * i / count) for i in range(count + 1)) if count else frozenset()


def save_snapshot(run: Path, step: int, weights: dict[str, Tensor], disk: Disk = DISK) -> None:
    """Write the copy of `weights` after `step` steps; the same again if it is there."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    for left in folder.glob(".step-*"):  # by a process that died while it wrote
        disk.remove(left)
    data = safetensors.torch.save(weights)
    replace_file(folder / f"step-{step:08d}.safetensors", data, disk)


def snapshots(run: Path) -> dict[int, Path]:
    """Return the copies of the run folder `run` by step, ascending."""
    found = {}
    for path in sorted((run / FOLDER).glob("step-*.safetensors")):
        match = re.fullmatch(r"step-(\d{8,})\.safetensors", path.name)
        if match:
            found[int(match.group(1))] = path
    return found
