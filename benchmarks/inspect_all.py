"""Looking inside: `pellucid inspect RUN --all`, and each view by itself, of a run of the MNIST CNN.

    python -m benchmarks inspect_all [-n 3]

Every figure is that of a fresh process, so it holds its start, and the reading of data and weights.
Memory is the largest resident size. Targets, on two cores: `--all` under 60 s, each view under
10 s, below 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks import pairs

SECONDS, EACH, GIGABYTES = 60, 10, 1.5


def trained(data: str, folder: Path) -> str:
    """Train a run to look at; return its folder."""
    words = ["train", data, "--epochs=1", "--quiet", "--json", f"--out={folder}"]
    pairs.spawn([sys.executable, "-m", "pellucid", *words])
    return str(next(path.parent for path in folder.glob("*/summary.json")))


def views() -> list[str]:
    """Return the names of all views."""
    from pellucid.views.catalogue import VIEWS

    return [view.name for view in VIEWS]


def measure(run: str, what: str) -> pairs.Row:
    """Take one view, or all of them for `--all`, in a fresh process; append two rows."""
    row = pairs.spawn([sys.executable, "-m", "pellucid", "inspect", run, what, "--json"])
    facts = {key: row[key] for key in ("wall", "cpu", "rss_mb", "load", "steal", "others")}
    facts["ok"] = row.get("ok", "views" in row)
    limit = SECONDS if what == "--all" else EACH
    name = f"pellucid inspect RUN {what}"
    pairs.record("inspect", f"{name}: whole process", row["wall"], "s", f"< {limit}", facts)
    pairs.record("inspect", f"{name}: peak memory", round(row["rss_mb"] / 1000, 4), "GB",
                 f"< {GIGABYTES}", facts)  # fmt: skip
    return facts


def main() -> None:
    """Measure everything as often as asked; print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--data", default="mnist", help="digits, to try it out")
    parser.add_argument("--run", help="look at this run instead of training one")
    parser.add_argument("--views", action="store_true", help="only print the views' names")
    given = parser.parse_args()
    if given.views:
        print(json.dumps({"views": views()}))
        return
    # The names come from a process of their own: this one has to stay small.
    names = pairs.spawn([sys.executable, "-m", "benchmarks.inspect_all", "--views"])["views"]
    found: dict[str, list[pairs.Row]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        run = given.run or trained(given.data, Path(place))
        for _ in range(given.n):
            for what in ("--all", *names):
                found[what].append(measure(run, what))
    print(f"{'view':<18} {'seconds':>8} {'cpu s':>8} {'MB':>7}  target")
    for what, rows in found.items():
        wall, cpu, size = (
            statistics.median(row[key] for row in rows) for key in ("wall", "cpu", "rss_mb")
        )
        limit = SECONDS if what == "--all" else EACH
        met = wall < limit and size < 1000 * GIGABYTES
        print(f"{what:<18} {wall:>8.2f} {cpu:>8.2f} {size:>7.0f}  "
              f"{'met' if met else 'MISSED'} (< {limit} s, < {GIGABYTES} GB)")  # fmt: skip


if __name__ == "__main__":
    main()
