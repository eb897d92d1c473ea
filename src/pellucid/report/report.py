"""`write_report`: the figures and the document of a finished run."""

from __future__ import annotations

from pathlib import Path

from pellucid.report.content import gather, images_of
from pellucid.report.draw import draw_evaluation
from pellucid.report.opened import final_part, set_of
from pellucid.report.write import html_report, markdown_report
from pellucid.runs.listing import find
from pellucid.sinks.console import Console

HTML, MARKDOWN = "report.html", "report.md"


def write_report(
    run: str | Path,
    *,
    markdown: bool = False,
    pdf: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> Path:
    """Write the report of a finished run into its folder, and its figures; return the report.

    Args:
        run: a path, a name in the folder of runs, or `latest`.
        markdown: `report.md` instead of `report.html`, without pictures.
        pdf: the figures as PDF too, beside those as PNG.
        device: where mistakes and training images are compared.
        console: where progress goes; none by default.

    Raises:
        BadRun: if there is no such run, if it is not finished, or if its tables are not its own.
    """
    console = console or Console()
    opened = find(run)
    splits, notes = images_of(opened, console)
    content = gather(opened, splits, notes, device, console)
    last = final_part(opened)
    if last:
        draw_evaluation(opened, last, set_of(splits, last) if splits else None, pdf=pdf)
    name = MARKDOWN if markdown else HTML
    opened.write(name, markdown_report(content) if markdown else html_report(opened, content))
    return opened.path / name
