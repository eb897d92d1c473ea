"""The tables: ratios with intervals, from the raw rows in `results/`.

`table` has every clock of every cell, `short` a line for each rival of the contests S1 to S8. A
ratio is the time of the other cell / the time of ours; of memory likewise.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from benchmarks.contests import ALONE, PAIRED, Contest, Family
from benchmarks.pairs import HERE, RESULTS, Row, read
from benchmarks.turns import interval

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
    "rss_mb": "peak memory",
}
UNITS: dict[str, Callable[[float], str]] = {
    "steady": lambda s: f"{1e6 * s:.0f} us/image",
    "rss_mb": "{:.0f} MB".format,
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


def same_work(rows: list[Row]) -> str:
    """Return what the rows prove: `same bits`, `same work` with the losses' distance, or not."""
    for name in ("steps", "samples", "weights_start"):
        if len({str(row.get(name)) for row in rows}) > 1:
            return f"**differs: {name}**"
    if len({(row.get("versions") or row["machine"]).get("torch") for row in rows}) > 1:
        return "**differs: torch**"
    ends = {row.get("weights_end", "") for row in rows}
    if len(ends) == 1 and all(ends):
        return "same bits"
    by = "curve" if all(row["curve"] for row in rows) else "epoch_losses"
    curves = [row[by] for row in rows if row.get(by)]
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
        unit = UNITS.get(clock, "{:.1f} s".format)
        lines.append(
            f"{head} | {name} | {len(found)}; {share} | **{statistics.median(found):.3f}** "
            f"| {low:.3f}-{high:.3f} | {min(found):.3f}-{max(found):.3f} | {unit(a)} | {unit(b)} "
            f"| {same_work(ours + other)} |\n"
        )
    return lines


def _text(settings: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def write(noisy: bool = False) -> None:
    """Put the tables into README.md beside this file, and the briefest into that of the project."""
    _put(HERE / "README.md", f"{short()}\n{table(noisy)}")
    _put(HERE.parent / "README.md", brief())


def _put(page: Path, text: str) -> None:
    """Replace what stands between the marks of `page` by `text`."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    page.write_text(f"{before}{MARKS[0]}{text}{MARKS[1]}{after}", encoding="utf-8")


def brief() -> str:
    """Return the short table for who reads no more: what is judged, each contest named once."""
    lines = ["| contest | against | target | ratio | 95 % | n |\n|---|---|---|---|---|---|\n"]
    rest, before = [], ""
    for line in short().splitlines(True)[2:]:
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 9:
            rest.append(line)
            continue
        name, what, against, target, ratio, interval_, n = cells[1:8]
        if not target:
            continue
        title = f"{name} {what}{_shortened(name, what, cells[9])}"
        shown, before = "" if title == before else title, title
        against += ", ours in bf16" if "precision bf16" in cells[9] else ""
        lines.append(f"| {shown} | {against} | {target} | {ratio} | {interval_} | {n} |\n")
    return "".join([*lines, *rest])


def _shortened(name: str, what: str, settings: str) -> str:
    """Return by how much a race was shorter than its contest says; nothing if it was not."""
    contest = PAIRED.get(name) or PAIRED.get(what[-2:])
    if contest is None:
        return ""
    whole = (f"epochs {contest.epochs}", "limit 0")
    cut = [word for word in settings.split(", ") if word.startswith(("epochs ", "limit "))]
    cut = [word for word in cut if word not in whole]
    return f" ({', '.join(cut)})" if cut else ""


SHORT = """| id | contest | against | target | ratio | 95 % | n | blocks discarded | with |
|---|---|---|---|---|---|---|---|---|
"""


def short() -> str:
    """Return the table of the contests: a line for each rival, its best cell.

    A figure is bold where at most 30 % of the blocks were discarded; else it is a reading, of all
    blocks, and no claim.
    """
    lines = [SHORT]
    for name, contest in PAIRED.items():
        rows = read(RESULTS / f"{name}.jsonl")
        for clock, number in ((contest.clock, name), ("rss_mb", "S7")):
            if number != "S7" or name in ("S1", "S2"):
                for family in contest.families:
                    lines += _best(number, contest, family, rows, clock)
    lines += _alone_lines()
    return "".join([*lines, *_where(["S1", "S2", "S3", "S4", "S5", "S6", "S8"])])


def _best(number: str, contest: Contest, family: Family, rows: list[Row], clock: str) -> list[str]:
    """Return a line for each of the settings that a family was measured with."""
    mine = [row for row in rows if row.get("against") in family.cells]
    lines = []

    def setting(row: Row) -> str:
        return json.dumps(row["settings"], sort_keys=True)

    for _, found in groupby(sorted(mine, key=setting), setting):
        group = list(found)
        cells = [[row for row in group if row["against"] == cell] for cell in family.cells]
        ways = [way for way in (_figures(rows, clock) for rows in cells if rows) if way]
        if not ways:
            continue
        best = min(ways, key=lambda way: statistics.median(way.ratios))
        low, high = interval(best.ratios)
        settings = group[0]["settings"]
        target = contest.bf16 if settings["precision"] == "bf16" else family.target
        if number == "S7":
            target, title = 1.0, f"peak memory of {'S1' if contest is PAIRED['S1'] else 'S2'}"
        else:
            title = contest.title
        figure = f"{statistics.median(best.ratios):.2f}"
        lines.append(
            f"| {number} | {title} | {family.name} (`{best.cell}`) "
            f"| {f'>= {target:.2f}' if target else ''} "
            f"| {f'**{figure}**' if best.quiet else f'{figure}, a reading'} "
            f"| {low:.2f}-{high:.2f} | {len(best.ratios)} pairs | {best.out} of {best.blocks} "
            f"| {_text(settings)} |\n"
        )
    return lines


class _Way:
    """The ratios of one cell: of the quiet blocks if they suffice for a claim, else of all."""

    def __init__(self, cell: str, blocks: list[list[Row]], clock: str) -> None:
        kept = [block for block in blocks if quiet(block)]
        self.cell, self.blocks, self.out = cell, len(blocks), len(blocks) - len(kept)
        self.quiet = self.out <= 0.3 * len(blocks)
        used = kept if self.quiet else blocks
        self.ratios = [ratio for block in used for ratio in ratios(block, clock)]


def _figures(rows: list[Row], clock: str) -> _Way | None:
    numbers = sorted({row["block"] for row in rows})
    blocks = [[row for row in rows if row["block"] == number] for number in numbers]
    whole = [block for block in blocks if len(block) == 4 and all(row.get(clock) for row in block)]
    return _Way(rows[0]["against"], whole, clock) if whole else None


def _alone_lines() -> list[str]:
    """Return the lines of what is not made of paired cells."""
    lines = []
    for name, files in {**dict.fromkeys(ALONE, ""), "S5": "startup", "S6": "checkpoint*"}.items():
        paths = sorted({*RESULTS.glob(f"{files or name}.jsonl"), RESULTS / f"{name}.jsonl"})
        rows = [row for path in paths for row in read(path) if "what" in row]
        for what in dict.fromkeys(row["what"] for row in rows):
            group = [row for row in rows if row["what"] == what]
            if what != "pellucid --help" and "import" not in what and name == "S5":
                continue
            every = [ratio for row in group for ratio in row.get("ratios", [row["value"]])]
            low, high = interval(every) if len(every) > 1 else (every[0], every[0])
            lines.append(
                f"| {name} | {what} | | {group[0]['target']} "
                f"| {statistics.median(every):.3f} {group[0]['unit']} | {low:.3f}-{high:.3f} "
                f"| {len(every)} | | {_text({k: group[-1][k] for k in KEPT if k in group[-1]})} |\n"
            )
    return lines


KEPT = ("data", "threads", "steps_per_turn", "base")
"""The settings of a row that stands alone, for the short table."""


def _where(names: list[str]) -> list[str]:
    """Return what the rows of these contests were measured on, as lines of text."""
    rows = [row for name in names for row in read(RESULTS / f"{name}.jsonl")]
    places = {
        json.dumps({**row["machine"], **row.get("versions", {}), "commit": ""}) for row in rows
    }
    merged: dict[str, dict[str, str]] = {}
    for place in map(json.loads, places):
        merged.setdefault(f"{place['processor']}, {place['cores']} cores", {}).update(place)
    names_of = ("processor", "cores", "commit")
    return [
        f"\n{place}; {', '.join(f'{k} {v}' for k, v in sorted(facts.items()) if k not in names_of)}"
        "\n"
        for place, facts in merged.items()
    ]
