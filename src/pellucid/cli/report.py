"""`pellucid report`."""

from __future__ import annotations

import json as json_text
import sys


def report(
    run: str,
    /,
    *,
    markdown: bool = False,
    pdf: bool = False,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Write everything about a finished run into one page: report.html in its folder.

    The page opens without a network, a server or scripts. All its numbers stand in it as JSON.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    markdown
        Write report.md instead, without pictures.
    pdf
        Write the figures as PDF too.
    device
        auto, cpu, cuda, mps: where mistakes are compared with training images.
    json
        Print one JSON object on standard output: where the report is.
    """
    from pellucid.report.report import write_report
    from pellucid.sinks.console import Console

    console = Console(sys.stderr)
    path = write_report(run, markdown=markdown, pdf=pdf, device=device, console=console)
    console.close()
    print(json_text.dumps({"report": str(path)}, ensure_ascii=False) if json else path)
    return 0
