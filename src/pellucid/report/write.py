"""A run as one HTML page that needs nothing else, or as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from pellucid.figures.curves import curves
from pellucid.figures.render import svg
from pellucid.report.content import Content
from pellucid.report.draw import figures_of
from pellucid.report.page import between, number, percent
from pellucid.runs.folder import Run

HERE = Path(__file__).parent


def html_report(run: Run, content: Content) -> str:
    """Return the report as one HTML page: no script runs in it and nothing is loaded.

    The same run gives the same bytes.
    """
    text = json.dumps(content.numbers(), ensure_ascii=False, allow_nan=False)
    template = _templates(autoescape=True).get_template("report.html.j2")
    return template.render(
        c=content,
        figures=_figures(run, content),
        numbers=text.replace("<", "\\u003c"),  # no name can end the block
    )


def markdown_report(content: Content) -> str:
    """Return the report as Markdown, without pictures."""
    environment = _templates(autoescape=False)
    environment.filters["md"] = _md
    return environment.get_template("report.md.j2").render(c=content)


def _templates(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.globals.update(percent=percent, number=number, between=between, span=_span)
    return environment


def _figures(run: Run, content: Content) -> dict[str, Any]:
    """Return the figures as SVG: those of each part by name, and `curves`."""
    figures: dict[str, Any] = {}
    for part in content.parts:
        figures[part.name] = {
            name: svg(draw, f"{part.name}-{name}")
            for name, draw in figures_of(run, part.facts).items()
        }
    stored = run.read_json("figures/curves.json")
    if stored:
        per_epoch, best = stored["steps_per_epoch"], stored["best_step"]
        schedule = [(step, lr) for step, lr in stored["schedule"]]
        figures["curves"] = svg(
            lambda: curves(stored["rows"], run.name, per_epoch, best, schedule), "curves"
        )
    else:
        figures["curves"] = ""
    return figures


def _span(interval: Any, factor: float = 100, digits: int = 2) -> str:
    """Return an interval without the words `95 %`."""
    return between(interval, factor, digits).removeprefix("95 %: ")


def _md(text: object) -> str:
    """Return `text` so that it neither ends a cell of a table nor becomes HTML."""
    plain = str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return plain.replace("\n", " ")
