"""`pellucid runs`."""

from __future__ import annotations

import json as json_text
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.runs.folder import Run

app = App(
    name="runs",
    help="List, show and remove runs.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)


@app.command(name="list")
def list_runs(*, out: Path = Path("runs"), json: bool = False) -> int:
    """List the runs in a folder, oldest first.

    Parameters
    ----------
    out
        The folder that collects runs.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli.tables import print_table
    from pellucid.runs.listing import all_runs

    found = [(run, _state(run)) for run in all_runs(out)]
    if json:
        rows = [
            {"run": str(r.path), "summary": s if isinstance(s, dict) else None} for r, s in found
        ]
        print(json_text.dumps({"runs": rows}))
    elif not found:
        print(f"There is no run in {out} yet. Start one: pellucid train")
    else:
        head = ("run", "steps", "test accuracy", "95 %", "n")
        print_table(head, [_row(run.name, summary) for run, summary in found])
    return 0


@app.command
def show(run: str, /, *, json: bool = False) -> int:
    """Show a run: its results, its checkpoints with their epochs, how it grew.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli.run_page import run_facts, run_page
    from pellucid.runs.listing import find

    facts = run_facts(find(run))
    print(json_text.dumps(facts, ensure_ascii=False) if json else run_page(facts))
    return 0


@app.command
def rm(run: str, /, *, yes: bool = False) -> int:
    """Remove a run folder for good.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    yes
        Remove it; without this, only say what would be removed.
    """
    from pellucid.runs.listing import find

    found = find(run)
    if not yes:
        print(
            f"{found.path} would be removed for good. Say so: pellucid runs rm {found.path} --yes"
        )
        return 2
    with found.locked():
        shutil.rmtree(found.path)
    print(f"removed {found.path}")
    return 0


def _state(run: Run) -> dict[str, Any] | str:
    """Return the summary of a run, or why there is none: one bad run does not hide the others."""
    from pellucid.errors import BadRun

    try:
        return run.summary() or "not finished"
    except BadRun:
        return "damaged summary"


def _row(name: str, summary: dict[str, Any] | str) -> tuple[str, ...]:
    if isinstance(summary, str):
        return (name, "-", summary, "-", "-")
    test = summary["test"]
    if not test:
        return (name, f"{summary['steps']:,}", "-", "-", "0")
    low, high = (f"{100 * edge:.2f}" for edge in test["interval"])
    accuracy = f"{100 * test['accuracy']:.2f} %"
    return (name, f"{summary['steps']:,}", accuracy, f"{low}-{high}", f"{test['n']:,}")
