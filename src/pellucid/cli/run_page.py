"""What `pellucid runs show` tells of a run."""

from __future__ import annotations

from textwrap import fill
from typing import Any

from pellucid.finish import result_text
from pellucid.runs.folder import DIAGNOSIS, METRICS, OPENINGS, Run
from pellucid.runs.snapshots import snapshots
from pellucid.sinks.console import count, percent


def run_facts(run: Run) -> dict[str, Any]:
    """Return the results, the checkpoints and the growth of `run`, for JSON."""
    rows = [row for row in run.rows(METRICS) if row["kind"] == "evaluation"]
    epochs = {row["step"]: row["epoch"] for row in rows}
    summary = run.summary()
    best = summary["best"]["step"] if summary else None
    return {
        "run": str(run.path),
        "summary": summary,
        "checkpoints": [
            {"step": step, "epoch": epochs.get(step), "best": step == best}
            for step in run.checkpoints.steps()
        ],
        "snapshots": list(snapshots(run.path)),
        "growth": [rows[i] for i in sorted({0, len(rows) // 2, len(rows) - 1})] if rows else [],
        "openings": run.rows(OPENINGS),
        "findings": (run.read_json(DIAGNOSIS) or {"findings": []})["findings"],
    }


def run_page(facts: dict[str, Any]) -> str:
    """Return `facts` as lines for a person."""
    summary = facts["summary"]
    unfinished = f"run: {facts['run']}\nnot finished; go on: pellucid resume {facts['run']}"
    lines = [result_text(summary) if summary else unfinished]
    lines.append("growth (first, middle, last evaluation):")
    for row in facts["growth"]:
        for part in ("train", "validation"):
            scores = row[part]
            if scores:
                share = percent(scores["accuracy"] * scores["n"], scores["n"])
                lines.append(f"  epoch {row['epoch']:>3}  {part:<10} {share}")
    lines.append("checkpoints:")
    for saved in facts["checkpoints"]:
        epoch = f"epoch {saved['epoch']}" if saved["epoch"] else "within an epoch"
        lines.append(f"  step {saved['step']:,}, {epoch}{', best' if saved['best'] else ''}")
    lines.append(f"snapshots of the weights: {len(facts['snapshots'])}")
    lines.append(f"test images opened: {count(len(facts['openings']), 'time')}")
    for found in facts["findings"]:
        text = f"{found['severity']}: {found['name']}: {found['sentence']} Try: {found['advice']}"
        lines.append(fill(text, 80, subsequent_indent="  "))
    return "\n".join(lines)
