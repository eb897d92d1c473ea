"""What `pellucid data check` shows and writes."""

from __future__ import annotations

import json as json_text
import shutil
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pellucid.checks.data_check import DataReport, check_data
from pellucid.checks.data_duplicates import PARTS
from pellucid.checks.data_text import printable
from pellucid.cli.resolve import Options, resolve
from pellucid.data.archive import SUFFIXES
from pellucid.errors import BadRecipe
from pellucid.runs.disk import replace_file
from pellucid.sinks.console import Console

SEVERITY = 9
"""Width of the first column."""
CLASSES = 20
"""Classes whose counts are shown; the JSON has all."""


def look(data: str, settings: dict[str, Any] | None, console: Console) -> DataReport:
    """Return the report on `data`: a known name, a folder, a CSV file or an archive."""
    path = Path(data).expanduser()
    if path.is_file() and data.lower().endswith(SUFFIXES):
        return check_data(path, console.progress)
    return check_data(resolve(data, Options(settings=settings)).data, console.progress)


def report_facts(report: DataReport) -> dict[str, Any]:
    """Return a report as plain values for JSON."""
    counts = report.counts.tolist()
    totals = report.counts.sum(0).tolist()
    return {
        "name": report.name,
        "place": report.place,
        "verdict": report.worst(),
        "images": report.files,
        "parts": dict(zip(PARTS, totals, strict=True)),
        "classes": {
            name: dict(zip(PARTS, row, strict=True))
            for name, row in zip(report.classes, counts, strict=True)
        },
        "kinds": report.kinds,
        "sizes": report.sizes,
        "mean": list(report.mean),
        "std": list(report.std),
        "findings": [asdict(finding) for finding in report.findings],
        "notes": list(report.notes),
        "files": [],
    }


def report_page(report: DataReport) -> str:
    """Return a report as lines for a person."""
    totals = report.counts.sum(0).tolist()
    parts = ", ".join(f"{n:,} {part}" for part, n in zip(PARTS, totals, strict=True) if n)
    lines = [
        f"{printable(report.name)}: {report.files:,} images, {len(report.classes)} classes; "
        f"readable: {parts or 'none'}",
        *_wrapped("kinds", ", ".join(f"{kind} {n:,}" for kind, n in report.kinds.items())),
        *_wrapped("sizes", _sizes(report.sizes)),
    ]
    if report.mean:
        mean, std = (", ".join(f"{x:.4f}" for x in values) for values in (report.mean, report.std))
        lines.append(f"mean     {mean}, standard deviation {std} (training part)")
    lines += _classes(report)
    for note in report.notes:
        lines += _wrapped("note", note)
    for finding in report.findings:
        lines += ["", *_wrapped(finding.severity, f"{finding.name}: {finding.sentence}")]
        for line in finding.lines:
            lines += _wrapped("", line, "  ")
        lines += _wrapped("", f"to do: {finding.advice}") if finding.advice else []
    return "\n".join([*lines, "", _summary(report)])


def write(report: DataReport, facts: dict[str, Any], out: Path) -> None:
    """Write `data_check.json` and `figures/data_check.png` into `out`.

    Raises:
        BadRecipe: if `out` lies where the data does.
    """
    from pellucid.figures.data_check import class_pictures
    from pellucid.figures.render import png

    counts = dict(zip(report.classes, report.counts.sum(1).tolist(), strict=True))
    title = f"{report.name}: {report.files:,} images, {len(report.classes)} classes"
    figure = class_pictures(report.examples, counts, printable(title))
    place, text = out / "figures" / "data_check.png", out / "data_check.json"
    facts["files"] = [str(text), str(place)]
    place.parent.mkdir(parents=True, exist_ok=True)
    replace_file(place, png(figure))
    replace_file(text, json_text.dumps(facts, indent=2, ensure_ascii=False).encode())


def refuse_inside(data: str, out: Path) -> None:
    """Refuse to write into the folder that is looked at.

    Raises:
        BadRecipe: if `out` lies in `data`.
    """
    place = Path(data).expanduser()
    if place.is_dir() and out.expanduser().resolve().is_relative_to(place.resolve()):
        raise BadRecipe(
            f"--out {out} lies in the data, {place}, which is only read. Name another folder."
        )


def _sizes(sizes: dict[str, Any]) -> str:
    if not sizes:
        return "none"
    by = " x ".join
    if sizes["different"] == 1:
        return f"all {by(map(str, sizes['smallest']))}"
    common = ", ".join(f"{width} x {height} ({n:,})" for width, height, n in sizes["common"][:3])
    return (
        f"{sizes['different']:,} different; {_range(sizes, 0, 'widths')}; "
        f"{_range(sizes, 1, 'heights')}; most frequent {common}"
    )


def _range(sizes: dict[str, Any], at: int, what: str) -> str:
    low, middle, high = (sizes[key][at] for key in ("smallest", "median", "largest"))
    return f"{what} {low} to {high}, median {middle}"


def _classes(report: DataReport) -> list[str]:
    used = [at for at, n in enumerate(report.counts.sum(0).tolist()) if n]
    width = min(40, max([len(printable(name)) for name in report.classes] + [5]))
    lines = [f"  {'class':<{width}}" + "".join(f"{PARTS[at]:>12}" for at in used)]
    for name, row in zip(report.classes[:CLASSES], report.counts.tolist(), strict=False):
        shown = textwrap.shorten(printable(name), width, placeholder="...") or "..."
        lines.append(f"  {shown:<{width}}" + "".join(f"{row[at]:>12,}" for at in used))
    more = len(report.classes) - CLASSES
    return [*lines, f"  and {more:,} more"] if more > 0 else lines


def _summary(report: DataReport) -> str:
    count = {
        severity: sum(finding.severity == severity for finding in report.findings)
        for severity in ("error", "warning", "note")
    }
    return ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in count.items())


def _wrapped(head: str, text: str, indent: str = "") -> list[str]:
    """Return `text` in lines behind a column that holds `head`."""
    room = max(30, shutil.get_terminal_size((80, 24)).columns - SEVERITY - len(indent))
    first, *rest = textwrap.wrap(text, room, break_long_words=False) or [""]
    blank = " " * SEVERITY
    return [f"{head:<{SEVERITY}}{indent}{first}", *(f"{blank}{indent}{line}" for line in rest)]
