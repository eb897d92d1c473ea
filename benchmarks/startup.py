"""Start-up: `pellucid --help`, and from the start of the process to the end of the first step.

Imports are cold, files are warm. Target: `--help` in less than 0.3 s. The peer's time to its first
step is in the rows of `peers.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile

import pairs


def first_step(data: str) -> pairs.Row:
    """Train `data` for one step with everything on; return the time at its end."""
    from ours import Clock

    import pellucid

    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        pellucid.train(pellucid.notes(data), out, console=clock, stop=lambda step: True)
    return {"first_step": clock.first_step}


def main() -> None:
    """Measure as often as asked; append a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--cell", choices=["first-step"], help="run this alone")
    given = parser.parse_args()
    if given.cell:
        print(json.dumps(first_step(given.data)))
        return
    for _ in range(given.n):
        row = pairs.spawn([sys.executable, "-m", "pellucid", "--help"])
        pairs.record("startup", "pellucid --help", row["wall"], "s", "< 0.3", row)
        step = pairs.spawn([sys.executable, __file__, f"--data={given.data}", "--cell=first-step"])
        what = f"process start to first step, {given.data}"
        pairs.record("startup", what, step["to_first_step"], "s", "", step)
        print(f"--help {row['wall']:.3f} s; to the first step {step['to_first_step']:.2f} s")


if __name__ == "__main__":
    main()
