"""Memory: the peak of `pellucid train mnist --epochs 1` above that of `import torch`.

Both in fresh processes, by the kernel's count of resident memory (the largest of the process and
its children). Target: at most 0.7 GB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile

from benchmarks import pairs


def main() -> None:
    """Measure as often as asked; append a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--data", default="mnist", help="digits, to try it out")
    given = parser.parse_args()
    train = ["train", given.data, "--epochs=1", "--quiet"]
    for _ in range(given.n):
        floor = pairs.spawn([sys.executable, "-c", "import torch"])
        with tempfile.TemporaryDirectory() as out:
            row = pairs.spawn([sys.executable, "-m", "pellucid", *train, f"--out={out}"])
        above = (row["rss_mb"] - floor["rss_mb"]) / 1000
        what = f"pellucid {' '.join(train)}: peak above `import torch`"
        facts = {**row, "floor_mb": floor["rss_mb"]}
        pairs.record("memory", what, round(above, 4), "GB", "<= 0.7", facts)
        print(f"{what}: {above:.3f} GB ({row['rss_mb']:.0f} - {floor['rss_mb']:.0f} MB)")


if __name__ == "__main__":
    main()
