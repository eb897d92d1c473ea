"""What is shown of a run that has just been finished."""

from __future__ import annotations

from pellucid.errors import PellucidError
from pellucid.report.opened import final_part
from pellucid.report.page import judgement_page
from pellucid.report.report import write_report
from pellucid.runs.evaluation import stored_evaluation
from pellucid.runs.folder import Run
from pellucid.sinks.console import Console


def told(run: Run, console: Console) -> str:
    """Draw the figures and write the report of a finished run; return its numbers as text.

    That is for people: should it fail, the run is no less finished.
    """
    lines = []
    part = final_part(run)
    facts = stored_evaluation(run, part) if part else None
    if facts:
        lines.append(f"\n{judgement_page(facts)}\n")
    try:
        lines.append(f"report: {write_report(run.path, console=console)}")
    except (PellucidError, OSError) as error:
        lines.append(f"no report was written: {error}")
    console.close()
    return "\n".join(lines)
