"""Start-up: `pellucid --help` and `import pellucid`, in fresh processes, files warm.

    python -m benchmarks.startup [-n 10]

Those that have fewer rows than asked for. The time to the first step is contest S5, in pairs with
the peers.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from benchmarks import pairs

COMMANDS = {
    "pellucid --help": (["-m", "pellucid", "--help"], "< 0.3"),
    "import pellucid": (["-c", "import pellucid"], "< 0.15"),
}


def main() -> None:
    """Measure what is missing; append a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10)
    wanted = parser.parse_args().n
    done = Counter(row["what"] for row in pairs.read(pairs.RESULTS / "startup.jsonl"))
    for number in range(wanted):
        for what, (words, target) in COMMANDS.items():
            if number < done[what]:
                continue
            row = pairs.spawn([sys.executable, *words])
            pairs.record("startup", what, row["wall"], "s", target, row)
            print(f"{what} {row['wall']:.3f} s")


if __name__ == "__main__":
    main()
