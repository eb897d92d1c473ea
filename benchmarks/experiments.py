"""Sixteen small runs: one comparison, two side by side, against sixteen commands.

    python -m benchmarks.experiments [-n 2]

Eight batch sizes, two seeds, one epoch of the digits each. One side is `pellucid compare --jobs 2`,
the other the same sixteen recipes by `pellucid train`, one after the other, with all cores each.
Both sides write everything that they write by default, but no TensorBoard files. Printed: the ratio
of whole times. Target: at least 1.5.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import pairs

SIZES = (16, 24, 32, 48, 64, 96, 128, 192)
SEEDS = 2
RUN = ["--epochs", "1", "--record.tensorboard", "off", "--quiet", "--json"]


def compared(folder: Path) -> dict[str, Any]:
    """Time `pellucid compare` on all runs, side by side."""
    sizes = ",".join(map(str, SIZES))
    words = ["compare", "digits", "--vary", f"batch-size={sizes}", "--seeds", str(SEEDS)]
    words += ["--jobs", "2", "--out", str(folder / "experiment"), *RUN]
    return pairs.spawn([sys.executable, "-m", "pellucid", *words])


def apart(folder: Path) -> float:
    """Time the same runs as commands of their own; return the seconds of all."""
    began = time.monotonic()
    for seed in range(SEEDS):
        for size in SIZES:
            words = ["train", "digits", "--batch-size", str(size), "--seed", str(seed)]
            pairs.spawn([sys.executable, "-m", "pellucid", *words, "--out", str(folder), *RUN])
    return time.monotonic() - began


def main() -> None:
    """Measure both sides in turn; append a row for each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=2)
    ratios = []
    for _ in range(parser.parse_args().n):
        with tempfile.TemporaryDirectory() as place:
            one = compared(Path(place))
            many = apart(Path(place))
        ratios.append(many / one["wall"])
        pairs.record(
            "experiments", "16 commands / compare --jobs 2", ratios[-1], "", ">= 1.5",
            {"wall": one["wall"], "apart": many},
        )  # fmt: skip
        print(json.dumps({"compare": one["wall"], "apart": many, "ratio": ratios[-1]}), flush=True)
    print(f"median {statistics.median(ratios):.2f} of {len(ratios)}")


if __name__ == "__main__":
    main()
