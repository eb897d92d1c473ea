"""The table: ratios with intervals, from the raw rows in `results/`.

`python table.py` prints it; `--write` puts it into README.md too; `--noisy` also counts the blocks
that were discarded, for a look while the machine is not quiet. A ratio is the time of the other
cell / the time of ours.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from itertools import groupby

from pairs import HERE, RESULTS, Row, read

MARKS = ("<!-- table -->\n", "<!-- /table -->\n")
MOVED, STEAL, OTHERS = 0.05, 0.01, 0.3
"""A block is discarded if a yardstick moved more, if more of the time was stolen, or if other
processes kept more processors busy."""
CLOCKS = {
    "wall": "whole process",
    "seconds": "training",
    "steady": "after epoch 1",
    "cpu": "CPU time",
    "to_first_step": "to first step",
}
HEAD = """| contest | against | clock | pairs | ratio | 95 % | range | ours | other | proof |
|---|---|---|---|---|---|---|---|---|---|
"""


def quiet(block: list[Row]) -> bool:
    """Return whether the machine was the same, and ours, for all of `block`."""
    sticks = [stick for row in block for stick in row["yardstick"]]
    ranges = [[stick[name] for stick in sticks] for name in sticks[0]]
    moved = max(max(values) / min(values) - 1 for values in ranges)
    busy = max(row["others"] for row in block)
    return moved <= MOVED and max(row["steal"] for row in block) <= STEAL and busy <= OTHERS


def took(row: Row, clock: str) -> float:
    """Return seconds; for `steady`, seconds per image."""
    return float(1 / row["steady"] if clock == "steady" else row[clock])


def ratios(block: list[Row], clock: str) -> list[float]:
    """Return time of the other cell / time of ours, for the two neighbouring pairs of `block`."""
    block = sorted(block, key=lambda row: row["place"])
    both = []
    for pair in (block[:2], block[2:]):
        by = {row["cell"] == "ours": took(row, clock) for row in pair}
        both.append(by[False] / by[True])
    return both


def interval(values: list[float], resamples: int = 10_000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median of `values`."""
    draws = random.Random(0)
    medians = sorted(
        statistics.median(draws.choices(values, k=len(values))) for _ in range(resamples)
    )
    return medians[int(0.025 * resamples)], medians[int(0.975 * resamples) - 1]


def same_work(rows: list[Row]) -> str:
    """Return what the rows prove: `same bits`, `same work` with the losses' distance, or not."""
    for name in ("steps", "samples", "weights_start"):
        if len({str(row.get(name)) for row in rows}) > 1:
            return f"**differs: {name}**"
    if len({row["weights_end"] for row in rows}) == 1:
        return "same bits"
    curves = [row["curve"] for row in rows]
    far = max(max(at) / min(at) - 1 for at in zip(*curves, strict=True))
    return f"same work, losses within {far:.1%}"


def table(noisy: bool = False) -> str:
    """Return the Markdown table of all rows in `results/`, and what they were measured on."""
    rows = [row for path in sorted(RESULTS.glob("*.jsonl")) for row in read(path)]
    lines = [HEAD]

    def group(row: Row) -> str:
        return json.dumps([row["contest"], row["against"], row["settings"]], sort_keys=True)

    alone = [row for row in rows if "what" in row]
    paired = [row for row in rows if "place" in row]
    for _, found in groupby(sorted(paired, key=group), group):
        lines += _lines(list(found), noisy)
    lines += ["\n| measured | n | median | range | target |\n|---|---|---|---|---|\n"]
    for what in sorted({row["what"] for row in alone}):
        lines.append(_alone(what, [row for row in alone if row["what"] == what]))
    where = sorted({json.dumps(row["machine"]) for row in rows})
    commands = sorted({row["command"] for row in paired})
    lines += ["\nMeasured on:\n\n", *(f"- `{line}`\n" for line in where)]
    return "".join([*lines, "\nCells:\n\n", *(f"- `{line}`\n" for line in commands)])


def _alone(what: str, rows: list[Row]) -> str:
    values, unit = [row["value"] for row in rows], rows[0]["unit"]
    return (
        f"| {what} | {len(rows)} | **{statistics.median(values):.3f} {unit}** "
        f"| {min(values):.3f}-{max(values):.3f} | {rows[0]['target']} |\n"
    )


def _lines(rows: list[Row], noisy: bool) -> list[str]:
    numbers = sorted({row["block"] for row in rows})
    blocks = [[row for row in rows if row["block"] == number] for number in numbers]
    blocks = [block for block in blocks if len(block) == 4]
    kept = [block for block in blocks if noisy or quiet(block)]
    head = f"| {rows[0]['contest']} {_text(rows[0]['settings'])} | {rows[0]['against']}"
    share = f"{len(blocks) - len(kept)} of {len(blocks)} blocks discarded"
    share = f"{len(blocks)} blocks, noisy ones too: **no claim**" if noisy else share
    if not kept or (len(blocks) - len(kept)) / len(blocks) > 0.3:
        return [f"{head} | | {share}: no claim | | | | | | |\n"]
    ours = [row for block in kept for row in block if row["cell"] == "ours"]
    other = [row for block in kept for row in block if row["cell"] != "ours"]
    lines = []
    for clock, name in CLOCKS.items():
        if not all(row.get(clock) for row in ours + other):
            continue
        found = [ratio for block in kept for ratio in ratios(block, clock)]
        low, high = interval(found)
        a, b = (statistics.median(took(row, clock) for row in side) for side in (ours, other))
        unit = (lambda s: f"{1e6 * s:.0f} us/image") if clock == "steady" else "{:.1f} s".format
        lines.append(
            f"{head} | {name} | {len(found)}; {share} | **{statistics.median(found):.3f}** "
            f"| {low:.3f}-{high:.3f} | {min(found):.3f}-{max(found):.3f} | {unit(a)} | {unit(b)} "
            f"| {same_work(ours + other)} |\n"
        )
    return lines


def _text(settings: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def main() -> None:
    """Print the table; write it into README.md if asked."""
    text = table("--noisy" in sys.argv)
    if "--write" in sys.argv:
        page = HERE / "README.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        page.write_text(f"{before}{MARKS[0]}{text}{MARKS[1]}{after}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
