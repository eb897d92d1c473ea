"""A lab's result as a page: plain text for a terminal, one self-contained HTML file for all."""

from __future__ import annotations

import base64
import inspect
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from pellucid.labs.result import Claim, LabResult, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 80


@dataclass(frozen=True)
class Section:
    """One lab on the page of all labs.

    Args:
        name: of the lab.
        title: in one line.
        result: what it found.
        picture: a PNG file.
    """

    name: str
    title: str
    result: LabResult
    picture: bytes


def plain(result: LabResult, width: int = WIDTH) -> str:
    """Return text, tables and claims of `result` for a terminal."""
    parts = [_wrapped(block, width) for block in blocks(result.text)]
    parts += [_columns(table) for table in result.tables]
    parts.append("\n".join(verdict(claim, width) for claim in result.claims))
    return "\n\n".join(parts)


def verdict(claim: Claim, width: int = WIDTH) -> str:
    """Return a claim as lines: whether it holds, what it says, the comparison in figures."""
    head = "holds   " if claim.holds else "FAILED  "
    trap = f" [{claim.trap}]" if claim.trap else ""
    lines = textwrap.wrap(claim.statement + trap, width - len(head))
    if claim.relation != "is" or not claim.holds:
        lines.append(claim.proof)
    return head + ("\n" + " " * len(head)).join(lines)


def blocks(text: str) -> list[str]:
    """Return the paragraphs of `text`, without the indentation that it has in the source."""
    return [block.strip("\n") for block in inspect.cleandoc(text).split("\n\n") if block.strip()]


def is_formula(block: str) -> bool:
    """Whether a paragraph is to stay as it is."""
    return block.startswith("    ")


def json_of(result: LabResult) -> dict[str, Any]:
    """Return `result` as plain values, without the picture."""
    return {
        "text": inspect.cleandoc(result.text),
        "tables": [
            {"title": t.title, "head": list(t.head), "rows": [list(row) for row in t.rows]}
            for t in result.tables
        ],
        "claims": [json_of_claim(claim) for claim in result.claims],
        "values": dict(result.values),
        "holds": not result.failed,
    }


def json_of_claim(claim: Claim) -> dict[str, Any]:
    """Return one claim as plain values."""
    return {
        "statement": claim.statement,
        "measured": claim.measured,
        "relation": claim.relation,
        "expected": claim.expected,
        "tolerance": claim.tolerance,
        "trap": claim.trap,
        "holds": claim.holds,
    }


def picture(figure: Figure, kind: str = "png") -> bytes:
    """Return the file of a picture, `png` or `svg`; the same bytes for the same figure."""
    from pellucid.figures import render

    if kind == "png":
        return render.png(figure, dpi=110)
    head, end, rest = render.svg(lambda: figure, "lab").partition(">")
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{end}{paper}{rest}\n'.encode()


def html(sections: Iterable[Section]) -> str:
    """Return one page with all `sections`: no link leads out of it, and it holds no script."""
    sections = list(sections)
    claims = [claim for section in sections for claim in section.result.claims]
    failed = sum(not claim.holds for claim in claims)
    entries = "".join(
        f'<li><a href="#{escape(s.name)}">{escape(s.title)}</a></li>\n' for s in sections
    )
    summary = f"{len(sections)} labs, {len(claims)} claims, {failed} of them failed"
    body = "".join(map(_section, sections))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Labs</title>\n'
        f"<style>{STYLE}</style></head><body>\n<h1>Labs</h1>\n<p>{summary}.</p>\n"
        f"<ol>\n{entries}</ol>\n{body}</body></html>\n"
    )


STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
td, th { border: 1px solid #bbb; padding: 0.2rem 0.6rem; text-align: left; }
.failed { background: #fbd9dc; }
section { border-top: 1px solid #bbb; margin-top: 3rem; }
"""


def _wrapped(block: str, width: int) -> str:
    return block if is_formula(block) else textwrap.fill(block, width, break_on_hyphens=False)


def _columns(table: Table) -> str:
    rows = [list(table.head), *table.cells()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    lines = [
        "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*([table.title] if table.title else []), *lines])


def _section(section: Section) -> str:
    result = section.result
    text = "".join(
        f"<pre>{escape(block)}</pre>\n" if is_formula(block) else f"<p>{escape(block)}</p>\n"
        for block in blocks(result.text)
    )
    image = base64.b64encode(section.picture).decode()
    tables = "".join(
        (f"<h3>{escape(table.title)}</h3>\n" if table.title else "")
        + _html_table(table.head, table.cells())
        for table in result.tables
    )
    rows = "".join(
        f"<tr{'' if c.holds else ' class=failed'}><td>{'holds' if c.holds else 'FAILED'}</td>"
        f"<td>{escape(c.statement)}</td><td>{escape(c.proof)}</td><td>{escape(c.trap)}</td></tr>\n"
        for c in result.claims
    )
    head = "<tr><th></th><th>claim</th><th>measured</th><th>trap</th></tr>\n"
    return (
        f'<section id="{escape(section.name)}"><h2>{escape(section.title)}</h2>\n'
        f"<p><code>pellucid lab {escape(section.name)}</code></p>\n{text}"
        f'<img alt="{escape(section.title)}" src="data:image/png;base64,{image}">\n'
        f"{tables}<table>{head}{rows}</table>\n</section>\n"
    )


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return f"<table><tr>{top}</tr>\n{body}</table>\n"
