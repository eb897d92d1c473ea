"""Plant every bug and run every healthy run; write what was said into docs/diagnosis.md.

    PELLUCID_DATA=FOLDER python scripts/fault_table.py [--rows FILE.jsonl] [--only TEXT] [--show]

One row of FILE per run: a second call goes on where the first one stopped. Runs on one thread,
about 20 s each. The thresholds were fixed on other data and other seeds: see the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the planted bugs live beside the tests

import torch  # noqa: E402

from pellucid.data.known import Cifar10, Mnist  # noqa: E402
from pellucid.models.mnist_cnn import MnistCNNSpec  # noqa: E402
from pellucid.models.simple_cnn import SimpleCNNSpec  # noqa: E402
from tests.checks.faults import FAULTS, Fault  # noqa: E402
from tests.checks.faults_none import HEALTHY, Healthy  # noqa: E402
from tests.checks.faults_run import NetSpec, Setting  # noqa: E402

PAGE = ROOT / "docs/diagnosis.md"
BEGIN, END = "<!-- table: scripts/fault_table.py -->", "<!-- end of table -->"
SEEDS = (0, 1, 2)
Row = dict[str, Any]


def settings(healthy: bool) -> list[Setting]:
    """Return the published settings: none of them was used to fix a threshold."""
    if healthy:
        return [
            Setting("mnist", Mnist(), MnistCNNSpec, 0, 150, 300),
            Setting("cifar10", Cifar10(), SimpleCNNSpec, 0, 200, 500),
        ]
    return [
        Setting(name, source, NetSpec, seed, length, few)
        for seed in SEEDS
        for name, source, length, few in (
            ("mnist", Mnist(), 150, 60),
            ("cifar10", Cifar10(), 200, 150),
        )
    ]


def measured(run: Fault | Healthy, setting: Setting) -> Row:
    """Train once, and return what was said."""
    expected = run.expected if isinstance(run, Fault) else ""
    seen = run.run(setting)
    warnings = seen.warnings()
    finding = warnings.get(expected)
    return {
        "kind": "fault" if expected else "healthy",
        "name": run.name,
        "expected": expected,
        "data": setting.name,
        "seed": setting.seed,
        "named": expected in warnings if expected else not warnings,
        "warnings": sorted(warnings),
        "notes": sorted({f.name for f in seen.told} - set(warnings)),
        "sentence": finding.sentence if finding else "",
        "seconds": round(seen.seconds, 1),
    }


def table(rows: list[Row]) -> str:
    """Return both tables in Markdown."""
    planted = [row for row in rows if row["kind"] == "fault"]
    sound = [row for row in rows if row["kind"] == "healthy"]
    named = sum(row["named"] for row in planted)
    quiet = sum(row["named"] for row in sound)
    lines = [
        f"**{named} of {len(planted)} runs with a planted bug were named; {len(sound) - quiet} of "
        f"{len(sound)} healthy runs raised an alarm.**",
        "",
        "| planted bug | named as | mnist | cifar10 | other alarms | said in the first run |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["name"] for row in planted):
        mine = [row for row in planted if row["name"] == name]
        counts = ", ".join(
            _count([row for row in mine if row["data"] == d]) for d in ("mnist", "cifar10")
        )
        also = sorted({w for row in mine for w in row["warnings"]} - {mine[0]["expected"]})
        others = ", ".join(also) or "-"
        said = mine[0]["sentence"].replace("|", "/")
        lines.append(f"| {name} | `{mine[0]['expected']}` | {counts} | {others} | {said} |")
    lines += ["", "| healthy run | data, seed | alarms | notes |", "|---|---|---|---|"]
    for name in dict.fromkeys(row["name"] for row in sound):
        mine = [row for row in sound if row["name"] == name]
        where = ", ".join(f"{row['data']} {row['seed']}" for row in mine)
        alarms = sorted({w for row in mine for w in row["warnings"]})
        notes = sorted({w for row in mine for w in row["notes"]})
        lines.append(
            f"| {name} | {where} | {', '.join(alarms) or '0'} | {', '.join(notes) or '-'} |"
        )
    return "\n".join(lines)


def _count(rows: list[Row]) -> str:
    return f"{sum(row['named'] for row in rows)} of {len(rows)}"


def main() -> int:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path, default=Path("fault_table.jsonl"))
    parser.add_argument("--only", default="", help="runs whose name holds this text")
    parser.add_argument("--show", action="store_true", help="print the tables, leave the page")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    if chosen.rows.exists():
        rows = [json.loads(line) for line in chosen.rows.read_text(encoding="utf-8").splitlines()]
    done = {(row["name"], row["data"], row["seed"]) for row in rows}
    todo = [
        (run, setting)
        for runs, healthy in ((FAULTS, False), (HEALTHY, True))
        for setting in settings(healthy)
        for run in runs
        if chosen.only in run.name and (run.name, setting.name, setting.seed) not in done
    ]
    with chosen.rows.open("a", encoding="utf-8") as file:
        for number, (run, setting) in enumerate(todo, 1):
            row = measured(run, setting)
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            verdict = "good" if row["named"] else "BAD"
            said = ", ".join(row["warnings"]) or "-"
            where = f"{number}/{len(todo)} {row['data']} {row['seed']}"
            print(f"{where} {verdict} {row['name']}: {said} ({row['seconds']} s)", flush=True)
    text = table(rows)
    if chosen.show:
        print(text)
        return 0
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return 0 if all(row["named"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
