"""`python -m benchmarks`: the contests, what was measured of them, and the commands that do it.

    python -m benchmarks                        the contests, their cells, how many rows there are
    python -m benchmarks S1 --blocks 4          run what is missing of one; see S1 --help
    python -m benchmarks all --blocks 4         run what is missing of every contest, make the table
    python -m benchmarks table [--noisy]        README.md's table; the short one is printed
    python -m benchmarks peers-env FOLDER       make the environment of the peers
    python -m benchmarks NAME ...               tax, memory, experiments, inspect_all, ...

Run it in the root of the repository, with no other work on the machine. PELLUCID_PEERS names the
interpreter of the peers, FOLDER/bin/python.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks import contests, pairs, table
from benchmarks.cells import CELLS

OTHERS = ("tax", "memory", "experiments", "processes", "metrics_speed", "startup", "growth",
          "tax_steps", "augment_steps", "inspect_all", "fast", "fast_parts")  # fmt: skip


def main(words: list[str]) -> int:
    """Do what the words of the command line say."""
    name, rest = (words[0], words[1:]) if words else ("", [])
    if not name:
        show()
    elif name in contests.PAIRED:
        paired(name, rest)
    elif name in contests.ALONE:
        contests.run_alone(name, rest)
    elif name == "all":
        everything(rest)
    elif name == "table":
        table.write("--noisy" in rest)
        print(table.short())
    elif name == "peers-env" and len(rest) == 1:
        python = contests.make_peers(Path(rest[0]).absolute())
        print(f"export {contests.PYTHON}={python}")
    elif name in OTHERS:
        module = [sys.executable, "-m", f"benchmarks.{name}", *rest]
        return subprocess.run(module, cwd=pairs.HERE.parent).returncode
    else:
        print(__doc__)
        return 0 if name in ("-h", "--help") else 2
    return 0


def show() -> None:
    """Print the contests, their cells, and how many rows each has."""
    rows = [row for path in sorted(pairs.RESULTS.glob("S*.jsonl")) for row in pairs.read(path)]
    counts = Counter((row["contest"], row.get("against", "")) for row in rows)
    for name, contest in contests.PAIRED.items():
        print(f"{name}  {contest.title}; {contest.epochs} epochs on {contest.data}")
        for family in contest.families:
            target = f"at least {family.target:.2f}" if family.target else "no target"
            print(f"    {family.name}: {target}")
            for number, cell in enumerate(family.cells):
                extra = "" if number < family.run else "  (with --against)"
                print(f"        {cell:<30} {counts[name, cell]:>3} rows{extra}")
    for name, (title, target) in contests.ALONE.items():
        print(f"{name}  {title}: {target}; {counts[name, '']} rows")
    print(f"\npeers: {contests.peers_python()}")


def paired(name: str, words: list[str]) -> None:
    """Run what is missing of a contest of paired cells."""
    given = options(name).parse_args(words)
    if given.peers:
        os.environ[contests.PYTHON] = given.peers
    contests.run_paired(
        name, given.blocks, given.against, given.epochs, given.limit, given.precision
    )
    if name == "S5":
        startup = [sys.executable, "-m", "benchmarks.startup", "-n", str(2 * given.blocks)]
        subprocess.run(startup, cwd=pairs.HERE.parent, check=True)
    print(table.short())


def options(name: str) -> argparse.ArgumentParser:
    """Return the parser of what a contest of paired cells may be given."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}")
    parser.add_argument("--blocks", type=int, default=4, help="of two pairs each")
    parser.add_argument("--against", nargs="+", choices=CELLS, default=[])
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--limit", type=int, default=0, help="images at most")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of ours")
    parser.add_argument("--peers", help="the interpreter of the peers")
    return parser


def everything(words: list[str]) -> None:
    """Run what is missing of every contest, then write the table."""
    for name, contest in contests.PAIRED.items():
        paired(name, words)
        if contest.bf16:
            best = contest.families[0].cells[: contest.families[0].run]
            paired(name, [*words, "--precision", "bf16", "--against", *best])
    for name in ("S3", "S4", "S6"):
        file = "checkpoint_pause" if name == "S6" else name
        if not pairs.read(pairs.RESULTS / f"{file}.jsonl"):
            contests.run_alone(name, [])
    contests.run_alone("S8", ["--pairs", str(2 * options("all").parse_args(words).blocks)])
    table.write()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
