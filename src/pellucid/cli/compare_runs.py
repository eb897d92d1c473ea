"""`pellucid compare-runs`."""

from __future__ import annotations

import json as json_text
import textwrap
from pathlib import Path
from typing import Any, Literal


def compare_runs(
    *runs: str,
    on: Literal["validation", "test"] = "validation",
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Compare finished runs on the same images: one table, and which differences are shown.

    Only runs on the same data, split alike. Each two are compared image by image: McNemar's exact
    test, by Holm's rule since there are several, and a paired bootstrap of the difference. To
    choose a run, look at validation; nothing is predicted anew.

    Parameters
    ----------
    runs
        At least two: paths, names of runs, or latest.
    on
        validation or test.
    out
        A folder for compared.png and compared.json; none is written without it.
    json
        Print one JSON object on standard output.
    """
    from pellucid.figures.render import png
    from pellucid.report.compare import compare_runs as compare
    from pellucid.report.compare import compared_drawing
    from pellucid.runs.disk import replace_file
    from pellucid.runs.listing import find

    facts = compare([find(run) for run in runs], on)
    text = json_text.dumps(facts, ensure_ascii=False, indent=None if json else 1)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "compared.png", png(compared_drawing(facts)()))
        replace_file(out / "compared.json", (text + "\n").encode())
    print(text if json else _page(facts))
    return 0


def _page(facts: dict[str, Any]) -> str:
    from pellucid.report.page import between, number, percent

    lines = [f"{facts['part']}, the same {facts['n']:,} images for all runs", ""]
    for row in facts["runs"]:
        lines.append(row["name"])
        lines.append(
            f"  accuracy {percent(row['accuracy'])} ({between(row['interval'])}), "
            f"loss {number(row['loss'])}"
        )
        lines.append(
            f"  macro F1 {percent(row['macro_f1'])}, ECE {percent(row['ece'])}, "
            f"{row['seconds']:,.0f} s of training, best epoch {row['best_epoch']:.3g}"
        )
        for change in facts["settings"].get(row["name"], ())[:8]:
            lines += textwrap.wrap(change, 78, initial_indent="  ", subsequent_indent="    ")
    lines.append("")
    for pair in facts["pairs"]:
        lines += textwrap.wrap(pair["verdict"], 80, subsequent_indent="  ", break_on_hyphens=False)
        lines.append(
            f"  difference {100 * pair['difference']:+.2f} points "
            f"({between(pair['interval'])}; paired bootstrap)"
        )
    return "\n".join(lines)
