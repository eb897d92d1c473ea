"""Start-up: `pellucid --help` and `import pellucid`, in fresh processes, files warm.

    python -m benchmarks.startup [-n 10]

The time to the first step is contest S5, in pairs with the peers.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks import pairs

COMMANDS = {
    "pellucid --help": (["-m", "pellucid", "--help"], "< 0.3"),
    "import pellucid": (["-c", "import pellucid"], "< 0.15"),
}


def main() -> None:
    """Measure as often as asked; append a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10)
    for _ in range(parser.parse_args().n):
        for what, (words, target) in COMMANDS.items():
            row = pairs.spawn([sys.executable, *words])
            pairs.record("startup", what, row["wall"], "s", target, row)
            print(f"{what} {row['wall']:.3f} s")


if __name__ == "__main__":
    main()
