"""The recipe `fast`: its accuracy over seeds, and its time against the notes' recipe.

    python -m benchmarks fast [--data mnist] [--seeds 10] [--rivals 1]

The notes' recipe, 12 epochs (of CIFAR-10 10), is run by Lightning with torchvision in its fastest
cell that loads an image at a time (`lightning-fast-1`), in the middle of our seeds. Whole
processes, imports and the test included; ours is `pellucid.train`, without the page that the
command line makes of a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from benchmarks import pairs
from benchmarks.arrays import Work
from benchmarks.contests import peers_python

RIVAL = "lightning-fast-1"
EPOCHS = {"mnist": 12, "cifar10": 10}
"""Of the notes' recipe."""


def cell(data: str, seed: int) -> pairs.Row:
    """Train once; return the row."""
    from benchmarks.ours import train_ours
    from pellucid.recipes.named import named

    return train_ours(named("fast", data).with_(seed=seed))


def ours(data: str, seed: int) -> pairs.Row:
    """Train once in a fresh process; keep and return the row."""
    row = pairs.spawn([sys.executable, "-m", "benchmarks.fast", f"--data={data}", f"--cell={seed}"])
    facts = {"contest": "fast", "data": data, "cell": "ours", "seed": seed}
    row |= {**facts, "machine": pairs.machine()}
    pairs.append("fast", row)
    print(
        f"fast, {data}, seed {seed}: {100 * row['accuracy']:.2f} %, {row['wall']:.1f} s", flush=True
    )
    return row


def rival(data: str) -> pairs.Row:
    """Run the notes' recipe in a fresh process; keep and return the row."""
    work = Work(data, EPOCHS[data])
    words = [peers_python(), "-m", "benchmarks.cells", *work.arguments, f"--cell={RIVAL}"]
    row = {"contest": "fast", "data": data, "cell": RIVAL, **pairs.spawn(words)}
    pairs.append("fast", {**row, "machine": pairs.machine()})
    print(f"{RIVAL}: {100 * row['accuracy']:.2f} %, {row['wall']:.1f} s", flush=True)
    return row


def main() -> None:
    """Run the seeds that are missing, and the rival; print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=EPOCHS, default="mnist")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rivals", type=int, default=1)
    parser.add_argument("--cell", type=int)
    given = parser.parse_args()
    if given.cell is not None:
        print(json.dumps(cell(given.data, given.cell)))
        return
    notes = Work(given.data, EPOCHS[given.data])
    if not (notes.folder / "facts.json").exists():
        pairs.spawn([sys.executable, "-m", "benchmarks.ours", *notes.arguments, "--prepare"])
    known = [row for row in pairs.read(pairs.RESULTS / "fast.jsonl") if row["data"] == given.data]
    mine = {row["seed"]: row for row in known if row["cell"] == "ours"}
    theirs = [row for row in known if row["cell"] == RIVAL]
    for seed in range(given.seeds):
        if seed == given.seeds // 2:
            theirs += [rival(given.data) for _ in range(given.rivals - len(theirs))]
        if seed not in mine:
            mine[seed] = ours(given.data, seed)
    accuracies = [100 * row["accuracy"] for row in mine.values()]
    walls = [row["wall"] for row in mine.values()]
    print(
        f"mean {statistics.mean(accuracies):.3f} % ({min(accuracies):.2f} to "
        f"{max(accuracies):.2f}, n = {len(mine)} seeds), median {statistics.median(walls):.1f} s"
    )
    for row in theirs:
        ratio = row["wall"] / statistics.median(walls)
        print(f"{RIVAL}: {row['wall']:.0f} s, {ratio:.1f} times as long")


if __name__ == "__main__":
    main()
